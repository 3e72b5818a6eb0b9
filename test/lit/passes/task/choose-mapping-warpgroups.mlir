// A large product of two arguments goes to warpgroups; its sums stay in registers, where what follows takes them.
// RUN: %mlc-opt %s --choose-mapping --target=cuda:sm_90a | filecheck %s
// RUN: %mlc-opt %s --choose-mapping --target=cuda:sm_90 | filecheck %s --check-prefix WARPS
// RUN: %mlc-opt %s --choose-mapping --lower-task-to-gpu --target=cuda:sm_90a | filecheck %s --check-prefix GPU

// CHECK: "task.alloc"() {level = "register"}
// CHECK: "task.mma"
// CHECK-SAME: atom = "wgmma.m64k16"
// CHECK-SAME: stages = 3 : i64, step = 64 : i64, warps = [8, 1, 1], workspace = 0 : i64
// CHECK: {extents = [128, 128]}
// CHECK: band = 8 : i64
// CHECK-SAME: threads = 288 : i64

// WARPS: atom = "mma.m16n8k16.f16"
// WARPS-NOT: band
// WARPS: threads = 256 : i64

// Two maps follow the buffers: rows by 64 points of the reduction, and 64 points by panels of 64 columns.
// GPU: gpu.func @product(%{{.*}}: memref<4194304xf16, {{.*}}>, {{.*}}, %[[A:.*]]: !llvm.ptr, %[[B:.*]]: !llvm.ptr) kernel
// GPU-SAME: nvvm.minctasm = 2 : i32
// GPU-SAME: task.tensormaps = [{argument = 3 : i64, box = [128, 64], buffer = 0 : i64, dtype = "f16", shape = [4096, 1024]
// GPU-SAME: {argument = 4 : i64, box = [64, 64], buffer = 1 : i64, dtype = "f16", shape = [1024, 4096]
// GPU: nvvm.prefetch tensormap, %[[A]]
// GPU: nvvm.mbarrier.init
// GPU: nvvm.griddepcontrol wait
// GPU: wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16
// GPU: gpu.shuffle xor
// GPU: vector.store {{.*}} vector<8xf16>
// GPU: nvvm.cp.async.bulk.tensor.shared.cluster.global {{.*}}, %[[A]]
// GPU-COUNT-2: nvvm.cp.async.bulk.tensor.shared.cluster.global {{.*}}, %[[B]]
// GPU: gpu.barrier
"task.kernel"() ({
^bb0(%a: memref<4096x1024xf16>, %b: memref<1024x4096xf16>, %y: memref<4096x4096xf16>, %i: index, %j: index):
  %c128 = arith.constant 128 : index
  %row = arith.muli %i, %c128 : index
  %column = arith.muli %j, %c128 : index
  %c = "task.alloc"() {level = "shared"} : () -> memref<128x128xf32>
  "task.mma"(%a, %b, %c, %row, %column) {atom = "fma", extents = [128, 128, 1024], reductions = 1, maps = [
    affine_map<(m, n, k, r, c) -> (m + r, k)>, affine_map<(m, n, k, r, c) -> (k, n + c)>, affine_map<(m, n, k, r, c) -> (m, n)>]}
    : (memref<4096x1024xf16>, memref<1024x4096xf16>, memref<128x128xf32>, index, index) -> ()
  "task.foreach"() ({
  ^bb1(%m: index, %n: index):
    %v = "task.load"(%c, %m, %n) {map = affine_map<(m, n) -> (m, n)>} : (memref<128x128xf32>, index, index) -> f32
    %w = arith.truncf %v : f32 to f16
    "task.store"(%w, %y, %m, %n, %row, %column) {map = affine_map<(m, n, r, c) -> (m + r, n + c)>}
      : (f16, memref<4096x4096xf16>, index, index, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [128, 128]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "product", grid = [32, 32], inputs = 2} : () -> ()

func.func @main(%a: memref<4096x1024xf16>, %b: memref<1024x4096xf16>, %y: memref<4096x4096xf16>) attributes {task.arena = 0 : i64, task.inputs = 2 : i64} {
  "task.launch"(%a, %b, %y) {kernel = "product"} : (memref<4096x1024xf16>, memref<1024x4096xf16>, memref<4096x4096xf16>) -> ()
  return
}
