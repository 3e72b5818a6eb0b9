// graph, windows times weights: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @conv(
// CHECK: "graph.conv"(%{{.*}}) {dilations = [1, 1], groups = 1 : i64, layout = "nchw", strides = [2, 2]}
func.func @conv(%x: tensor<1x3x9x9xf32>, %w: tensor<8x3x3x3xf32>) {
  %y = "graph.conv"(%x, %w) {strides = [2, 2], dilations = [1, 1], groups = 1, layout = "nchw"}
    : (tensor<1x3x9x9xf32>, tensor<8x3x3x3xf32>) -> tensor<1x8x4x4xf32>
  return
}

// CHECK-LABEL: func.func @conv_transpose(
// CHECK: "graph.conv_transpose"(%{{.*}}) {dilations = [1], groups = 1 : i64, layout = "nchw", pads = [1], size = [8], strides = [2]}
func.func @conv_transpose(%x: tensor<1x3x4xf32>, %w: tensor<3x8x4xf32>) {
  %y = "graph.conv_transpose"(%x, %w) {strides = [2], dilations = [1], pads = [1], size = [8], groups = 1, layout = "nchw"}
    : (tensor<1x3x4xf32>, tensor<3x8x4xf32>) -> tensor<1x8x8xf32>
  return
}
