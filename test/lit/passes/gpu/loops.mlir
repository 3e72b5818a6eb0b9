// A loop in a kernel: what its iterations read again is loaded once ahead of it, weights even ahead of the wait; blocks meet in a cluster.
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s --check-prefix=TASK
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s

// TASK: scf.for
// TASK: "task.load"({{.*}}) {kept = true
// TASK: "task.barrier"() {scope = "cluster"}
// TASK: sym_name = "loop_0"

// CHECK: gpu.func @loop_0({{.*}} %[[W:[a-z0-9]+]]: memref<65536xf16
// CHECK-SAME: known_cluster_size = array<i32: 16, 1, 1>
// CHECK: vector.load %[[W]]
// CHECK: nvvm.griddepcontrol
// CHECK-NOT: %[[W]]
// CHECK: nvvm.cluster.arrive
// CHECK-NEXT: nvvm.cluster.wait
// CHECK-NEXT: scf.for
// CHECK-NOT: %[[W]]
// CHECK: gpu.return
func.func @main(%h: tensor<1x256xf16>, %x: tensor<33x1x256xf16>) -> tensor<33x1x256xf16> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<256x256xf16>
  %last, %all = "flow.loop"(%h, %x) ({
  ^bb0(%i: tensor<i64>, %s: tensor<1x256xf16>, %xi: tensor<1x256xf16>):
    %0 = "graph.matmul"(%s, %w) {transpose_b = true} : (tensor<1x256xf16>, tensor<256x256xf16>) -> tensor<1x256xf16>
    %1 = "graph.elementwise"(%0, %xi) {fn = "add"} : (tensor<1x256xf16>, tensor<1x256xf16>) -> tensor<1x256xf16>
    %n = "graph.elementwise"(%1) {fn = "tanh"} : (tensor<1x256xf16>) -> tensor<1x256xf16>
    "flow.yield"(%n, %n) : (tensor<1x256xf16>, tensor<1x256xf16>) -> ()
  }) {trip = 33, carried = 1} : (tensor<1x256xf16>, tensor<33x1x256xf16>) -> (tensor<1x256xf16>, tensor<33x1x256xf16>)
  return %all : tensor<33x1x256xf16>
}
