// Few rows by a deep matrix: the transposed product goes to warpgroups, the matrix's columns are the instruction's rows.
// RUN: %mlc-opt %s --choose-mapping --target=cuda:sm_90a | filecheck %s
// RUN: %mlc-opt %s --choose-mapping --lower-task-to-gpu --target=cuda:sm_90a | filecheck %s --check-prefix GPU

// CHECK: atom = "wgmma.m64k16"
// CHECK-SAME: stages = 6 : i64, step = 64 : i64, warps = [4, 1, 1]
// CHECK: threads = 160 : i64

// The matrix's map comes first. That of the one row has a second dimension, as all maps do.
// GPU: task.tensormaps = [{argument = 3 : i64, box = [64, 64], buffer = 1 : i64, dtype = "f16", shape = [4096, 1024]
// GPU-SAME: {argument = 4 : i64, box = [1, 64], buffer = 0 : i64, dtype = "f16", shape = [1, 4096]
// GPU: wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16
"task.kernel"() ({
^bb0(%a: memref<1x4096xf16>, %b: memref<4096x1024xf16>, %y: memref<1x1024xf16>, %j: index):
  %c64 = arith.constant 64 : index
  %column = arith.muli %j, %c64 : index
  %c = "task.alloc"() {level = "shared"} : () -> memref<1x64xf32>
  "task.mma"(%a, %b, %c, %column) {atom = "fma", extents = [1, 64, 4096], reductions = 1, maps = [
    affine_map<(m, n, k, c) -> (m, k)>, affine_map<(m, n, k, c) -> (k, n + c)>, affine_map<(m, n, k, c) -> (m, n)>]}
    : (memref<1x4096xf16>, memref<4096x1024xf16>, memref<1x64xf32>, index) -> ()
  "task.foreach"() ({
  ^bb1(%m: index, %n: index):
    %v = "task.load"(%c, %m, %n) {map = affine_map<(m, n) -> (m, n)>} : (memref<1x64xf32>, index, index) -> f32
    %w = arith.truncf %v : f32 to f16
    "task.store"(%w, %y, %m, %n, %column) {map = affine_map<(m, n, c) -> (m, n + c)>} : (f16, memref<1x1024xf16>, index, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [1, 64]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "row", grid = [16], inputs = 2} : () -> ()

func.func @main(%a: memref<1x4096xf16>, %b: memref<4096x1024xf16>, %y: memref<1x1024xf16>) attributes {task.arena = 0 : i64, task.inputs = 2 : i64} {
  "task.launch"(%a, %b, %y) {kernel = "row"} : (memref<1x4096xf16>, memref<4096x1024xf16>, memref<1x1024xf16>) -> ()
  return
}
