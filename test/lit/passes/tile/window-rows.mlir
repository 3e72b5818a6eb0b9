// window-rows: windows of few channels are rows of a copy, where matrix units multiply and the price is lower.
// RUN: %mlc-opt %s --split-input-file --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,window-rows)' | filecheck %s
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v3 --pass-pipeline='builtin.module(lower-graph-to-tile,window-rows)' | filecheck %s --check-prefix=CPU

// The copy pads, moves channels last, and gives each place four of them; the weights' rows are whole 16 bytes. A window's row is 7 * 4 long.
// CHECK-LABEL: func.func @first
// CHECK-NOT: tile.pad
// CHECK: "tile.graph"(%arg0)
// CHECK: (tensor<32x3x224x224xf16>) -> tensor<32x230x230x4xf16>
// CHECK: "tile.view"
// CHECK-SAME: -> tensor<32x230x920xf16>
// CHECK: -> tensor<64x7x32xf16>
// CHECK: tensor.empty() : tensor<7x28x1xi8>
// CHECK: (tensor<32x230x920xf16>, tensor<64x7x32xf16>) -> tensor<32x112x112x64xf32>
// CPU-LABEL: func.func @first
// CPU-NOT: tensor<32x230x920xf16>
func.func @first(%x: tensor<32x3x224x224xf16>) -> tensor<32x112x112x64xf16> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<7x7x3x64xf16>
  %0 = "graph.pad"(%x) {low = [0, 0, 3, 3], high = [0, 0, 3, 3], mode = "constant", value = 0.0} : (tensor<32x3x224x224xf16>) -> tensor<32x3x230x230xf16>
  %1 = "graph.transpose"(%0) {perm = [0, 2, 3, 1]} : (tensor<32x3x230x230xf16>) -> tensor<32x230x230x3xf16>
  %2 = "graph.conv"(%1, %w) {strides = [2, 2], dilations = [1, 1], groups = 1, layout = "nhwc"} : (tensor<32x230x230x3xf16>, tensor<7x7x3x64xf16>) -> tensor<32x112x112x64xf16>
  return %2 : tensor<32x112x112x64xf16>
}

// -----

// Windows that begin at whole pieces of memory stay, and those of what no unit multiplies, and steps between taps.
// CHECK-LABEL: func.func @patches
// CHECK-NOT: "tile.view"
// CHECK: return
func.func @patches(%x: tensor<32x224x224x3xf16>) -> tensor<32x14x14x768xf16> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<16x16x3x768xf16>
  %0 = "graph.conv"(%x, %w) {strides = [16, 16], dilations = [1, 1], groups = 1, layout = "nhwc"} : (tensor<32x224x224x3xf16>, tensor<16x16x3x768xf16>) -> tensor<32x14x14x768xf16>
  return %0 : tensor<32x14x14x768xf16>
}

// -----

// CHECK-LABEL: func.func @wide_floats
// CHECK-NOT: "tile.view"
// CHECK: return
func.func @wide_floats(%x: tensor<32x224x224x3xf32>) -> tensor<32x109x109x64xf32> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<7x7x3x64xf32>
  %0 = "graph.conv"(%x, %w) {strides = [2, 2], dilations = [1, 1], groups = 1, layout = "nhwc"} : (tensor<32x224x224x3xf32>, tensor<7x7x3x64xf32>) -> tensor<32x109x109x64xf32>
  return %0 : tensor<32x109x109x64xf32>
}

// -----

// CHECK-LABEL: func.func @dilated
// CHECK-NOT: "tile.view"
// CHECK: return
func.func @dilated(%x: tensor<32x224x224x3xf16>) -> tensor<32x106x106x64xf16> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<7x7x3x64xf16>
  %0 = "graph.conv"(%x, %w) {strides = [2, 2], dilations = [2, 2], groups = 1, layout = "nhwc"} : (tensor<32x224x224x3xf16>, tensor<7x7x3x64xf16>) -> tensor<32x106x106x64xf16>
  return %0 : tensor<32x106x106x64xf16>
}
