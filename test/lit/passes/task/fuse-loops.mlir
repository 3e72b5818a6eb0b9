// fuse-loops: a group's launches become phases of one kernel; what no kernel can hold stays as launches.
// RUN: %mlc-opt %s --split-input-file --fuse-loops | filecheck %s

// Slices become indices of the whole buffers; the blocks beyond a phase's grid do its last one again; barriers stand between phases.
// CHECK: #[[SLICED:.*]] = affine_map<(d0, d1, d2) -> (d0, d1 + d2 * 4)>
// CHECK: "task.kernel"()
// CHECK: ^bb0(%[[X:.*]]: memref<9x8xf32>, %[[Y:.*]]: memref<9x8xf32>, %[[BLOCK:.*]]: index):
// CHECK: %[[LAST:.*]] = arith.constant 1 : index
// CHECK: %[[B:.*]] = arith.minsi %[[BLOCK]], %[[LAST]]
// CHECK: "task.load"(%[[X]], %{{.*}}, %{{.*}}, %[[B]]) {map = #[[SLICED]]}
// CHECK: "task.barrier"() {scope = "cluster"}
// CHECK: scf.for %[[I:.*]] =
// CHECK: %[[J:.*]] = arith.addi %[[I]]
// CHECK: "task.load"(%[[Y]], %[[I]], %{{.*}}, %[[B]])
// CHECK: "task.store"(%{{.*}}, %[[Y]], %[[J]], %{{.*}}, %[[B]])
// CHECK: "task.barrier"() {scope = "cluster"}
// CHECK: "task.end"
// CHECK: cluster = true, grid = [4], inputs = 1 : i64, sym_name = "loop_0"
// CHECK-LABEL: func.func @main
// CHECK-NEXT: "task.launch"(%{{.*}}, %{{.*}}) {kernel = "loop_0"}
// CHECK-NEXT: return
"task.kernel"() ({
^bb0(%x: memref<8xf32>, %y: memref<8xf32>, %b: index):
  "task.foreach"() ({
  ^bb1(%i: index):
    %v = "task.load"(%x, %i, %b) {map = affine_map<(d0, d1) -> (d0 + d1 * 4)>} : (memref<8xf32>, index, index) -> f32
    "task.store"(%v, %y, %i, %b) {map = affine_map<(d0, d1) -> (d0 + d1 * 4)>} : (f32, memref<8xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [4]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "copy", grid = [2], inputs = 1} : () -> ()
func.func @main(%x: memref<9x8xf32>, %y: memref<9x8xf32>) {
  "task.group"() ({
    %zero = arith.constant 0 : index
    %one = arith.constant 1 : index
    %end = arith.constant 8 : index
    %x0 = "task.slice"(%x, %zero) : (memref<9x8xf32>, index) -> memref<8xf32>
    %y0 = "task.slice"(%y, %zero) : (memref<9x8xf32>, index) -> memref<8xf32>
    "task.launch"(%x0, %y0) {kernel = "copy"} : (memref<8xf32>, memref<8xf32>) -> ()
    scf.for %i = %zero to %end step %one {
      %j = arith.addi %i, %one : index
      %from = "task.slice"(%y, %i) : (memref<9x8xf32>, index) -> memref<8xf32>
      %to = "task.slice"(%y, %j) : (memref<9x8xf32>, index) -> memref<8xf32>
      "task.launch"(%from, %to) {kernel = "copy"} : (memref<8xf32>, memref<8xf32>) -> ()
    }
    "task.end"() : () -> ()
  }) {scope = "cluster", blocks = 4} : () -> ()
  return
}

// -----

// A buffer that is written under one shape and read under another is two buffers to a kernel, which might be read too early.
// CHECK-LABEL: func.func @aliased
// CHECK-NOT: task.group
// CHECK-COUNT-2: "task.launch"(%{{.*}}) {kernel = "copy"}
"task.kernel"() ({
^bb0(%x: memref<8xf32>, %y: memref<8xf32>):
  "task.foreach"() ({
  ^bb1(%i: index):
    %v = "task.load"(%x, %i) {map = affine_map<(d0) -> (d0)>} : (memref<8xf32>, index) -> f32
    "task.store"(%v, %y, %i) {map = affine_map<(d0) -> (d0)>} : (f32, memref<8xf32>, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [8]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "copy", grid = [], inputs = 1} : () -> ()
func.func @aliased(%x: memref<8xf32>, %y: memref<2x4xf32>, %z: memref<8xf32>) {
  "task.group"() ({
    %seen = "task.view"(%y) : (memref<2x4xf32>) -> memref<8xf32>
    "task.launch"(%x, %seen) {kernel = "copy"} : (memref<8xf32>, memref<8xf32>) -> ()
    %zero = arith.constant 0 : index
    %again = "task.view"(%y) : (memref<2x4xf32>) -> memref<1x8xf32>
    %part = "task.slice"(%again, %zero) : (memref<1x8xf32>, index) -> memref<8xf32>
    "task.launch"(%part, %z) {kernel = "copy"} : (memref<8xf32>, memref<8xf32>) -> ()
    "task.end"() : () -> ()
  }) {scope = "block", blocks = 1} : () -> ()
  return
}
