// choose-mapping: a norm's rows stay in registers; each is loaded once, by a warp, and what is one per row is computed by all of its threads.
// RUN: %mlc-opt %s --target=cuda:sm_80,sms=2 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s
// RUN: %mlc-opt %s --target=cuda:sm_80,sms=2 --pass-pipeline='builtin.module(lower-graph-to-tile,tile-pipeline,task-pipeline,gpu-kernel-pipeline)' | filecheck %s --check-prefix=GPU

// CHECK-NOT: level = "shared"
// CHECK: "task.alloc"() {level = "register"}
// CHECK: "task.foreach"
// CHECK: "task.load"(%arg0
// CHECK: columns = [{{[0-9]}}], extents = [{{.*}}768], map = #task.map<repeat(1, 3) * spatial({{[0-9]+}}, 32) * repeat(1, 8)>
// CHECK-NOT: "task.load"(%arg0
// CHECK: extents = [{{[0-9]+}}], map = #task.map<spatial({{[0-9]+}}, 32)>

// GPU-COUNT-3: vector.load
// GPU-NOT: vector.load
// GPU-NOT: gpu.barrier
// GPU: vector.reduction
// GPU: gpu.shuffle xor
func.func @main(%x: tensor<64x768xf16>) -> tensor<64x768xf16> {
  %0 = "graph.layer_norm"(%x) {axis = 1, eps = 1.0e-05} : (tensor<64x768xf16>) -> tensor<64x768xf16>
  return %0 : tensor<64x768xf16>
}
