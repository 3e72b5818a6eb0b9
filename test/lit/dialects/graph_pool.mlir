// graph, windows folded: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @pool(
// CHECK: "graph.pool"(%{{.*}}) {axis = 2 : i64, dilations = [1, 1], kernel = [3, 3], kind = "max", strides = [2, 2]}
func.func @pool(%x: tensor<1x8x9x9xf32>) {
  %y = "graph.pool"(%x) {kind = "max", kernel = [3, 3], strides = [2, 2], dilations = [1, 1], axis = 2}
    : (tensor<1x8x9x9xf32>) -> tensor<1x8x4x4xf32>
  return
}

// CHECK-LABEL: func.func @max_pool_indices(
// CHECK: "graph.max_pool_indices"(%{{.*}}) {axis = 2 : i64, dilations = [1], kernel = [2], low = [0], size = [8], strides = [2]}
func.func @max_pool_indices(%x: tensor<1x3x8xf32>) {
  %i = "graph.max_pool_indices"(%x) {kernel = [2], strides = [2], dilations = [1], axis = 2, low = [0], size = [8]}
    : (tensor<1x3x8xf32>) -> tensor<1x3x4xi64>
  return
}
