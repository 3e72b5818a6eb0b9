// A depthwise convolution whose tiles are single channels (channels come first in memory) is loops, one thread a window, on every machine:
// there is one column to multiply by, of nine points, where an atom takes sixteen of sixteen.
// RUN: %mlc-opt %s --target=rocm:gfx942 --pass-pipeline='builtin.module(graph-pipeline,lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s
// RUN: %mlc-opt %s --target=rocm:gfx1100 --pass-pipeline='builtin.module(graph-pipeline,lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(graph-pipeline,lower-graph-to-tile,tile-pipeline,task-pipeline)' | filecheck %s

// CHECK-NOT: task.mma
// CHECK: "task.reduce"
// CHECK: extents = [3, 3]
// CHECK-NOT: task.mma
// CHECK: map = #task.map<repeat(1, 9) * spatial({{[0-9]+}}, 1)>
// CHECK-NOT: task.mma
func.func @main(%x: tensor<1x512x14x14xf16>) -> tensor<1x512x14x14xf16> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<512x1x3x3xf16>
  %0 = "graph.pad"(%x) {high = [0, 0, 1, 1], low = [0, 0, 1, 1]} : (tensor<1x512x14x14xf16>) -> tensor<1x512x16x16xf16>
  %1 = "graph.conv"(%0, %w) {dilations = [1, 1], groups = 512 : i64, layout = "nchw", strides = [1, 1]} : (tensor<1x512x16x16xf16>, tensor<512x1x3x3xf16>) -> tensor<1x512x14x14xf16>
  %2 = "graph.elementwise"(%1) {fn = "relu"} : (tensor<1x512x14x14xf16>) -> tensor<1x512x14x14xf16>
  return %2 : tensor<1x512x14x14xf16>
}
