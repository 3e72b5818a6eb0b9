// join-foreaches: what a foreach makes goes to the next one in a register, if that reads it at the same point.
// RUN: %mlc-opt %s --split-input-file --target=cuda:sm_90a --join-foreaches | filecheck %s
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v3 --join-foreaches | filecheck %s --check-prefix=CPU

// CHECK-LABEL: ^bb0
// CHECK: %[[V:.*]] = arith.negf
// CHECK: "task.store"(%[[V]]
// CHECK-NOT: "task.foreach"
// CHECK: %[[W:.*]] = math.exp %[[V]]
// CHECK: "task.store"(%[[W]]
// CHECK: sym_name = "joined"
// CPU-COUNT-4: "task.foreach"
"task.kernel"() ({
^bb0(%x: memref<1x64xf32>, %y: memref<1x64xf32>, %z: memref<1x64xf32>, %b: index):
  "task.foreach"() ({
  ^bb1(%i: index, %j: index):
    %v = "task.load"(%x, %j, %b) {map = affine_map<(d0, d1) -> (0, d0 + d1)>} : (memref<1x64xf32>, index, index) -> f32
    %n = arith.negf %v : f32
    "task.store"(%n, %y, %i, %j, %b) {map = affine_map<(d0, d1, d2) -> (d0, d1 + d2)>} : (f32, memref<1x64xf32>, index, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [1, 16]} : () -> ()
  "task.foreach"() ({
  ^bb1(%i: index, %j: index):
    %v = "task.load"(%y, %j, %b) {map = affine_map<(d0, d1) -> (0, d0 + d1)>} : (memref<1x64xf32>, index, index) -> f32
    %n = math.exp %v : f32
    "task.store"(%n, %z, %i, %j, %b) {map = affine_map<(d0, d1, d2) -> (d0, d1 + d2)>} : (f32, memref<1x64xf32>, index, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [1, 16]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "joined", grid = [4], inputs = 1} : () -> ()

// Another point of what the first made has to wait for all of it.
// CHECK-COUNT-2: "task.foreach"
// CHECK: sym_name = "apart"
"task.kernel"() ({
^bb0(%x: memref<64xf32>, %y: memref<64xf32>, %z: memref<64xf32>):
  "task.foreach"() ({
  ^bb1(%i: index):
    %v = "task.load"(%x, %i) {map = affine_map<(d0) -> (d0)>} : (memref<64xf32>, index) -> f32
    "task.store"(%v, %y, %i) {map = affine_map<(d0) -> (d0)>} : (f32, memref<64xf32>, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [64]} : () -> ()
  "task.foreach"() ({
  ^bb1(%i: index):
    %v = "task.load"(%y, %i) {map = affine_map<(d0) -> (-d0 + 63)>} : (memref<64xf32>, index) -> f32
    "task.store"(%v, %z, %i) {map = affine_map<(d0) -> (d0)>} : (f32, memref<64xf32>, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [64]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "apart", grid = [], inputs = 1} : () -> ()
