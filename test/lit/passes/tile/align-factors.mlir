// align-factors: factors of large products get rows of whole 16 bytes, the reduction last, where that is cheaper than to load them by elements.
// RUN: %mlc-opt %s --split-input-file --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,connect,align-factors)' | filecheck %s
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v3 --pass-pipeline='builtin.module(lower-graph-to-tile,connect,align-factors)' | filecheck %s --check-prefix=CPU

// Two copies, the second one turned; the reduction stays 2039 long. What follows the product is in its kernel.
// CHECK-LABEL: func.func @both
// CHECK: "tile.graph"(%arg0)
// CHECK: (tensor<2039x2039xf16>) -> tensor<2039x2048xf16>
// CHECK: "tile.graph"(%arg1)
// CHECK: (tensor<2039x2039xf16>) -> tensor<2039x2048xf16>
// CHECK: "tile.graph"
// CHECK: tensor.empty() : tensor<2039x1xi8>
// CHECK: arith.truncf
// CHECK: (tensor<2039x2048xf16>, tensor<2039x2048xf16>) -> tensor<2039x2039xf16>
// CHECK-NOT: "tile.graph"
// CPU-NOT: 2040
func.func @both(%x: tensor<2039x2039xf16>, %w: tensor<2039x2039xf16>) -> tensor<2039x2039xf16> {
  %0 = "graph.matmul"(%x, %w) : (tensor<2039x2039xf16>, tensor<2039x2039xf16>) -> tensor<2039x2039xf16>
  return %0 : tensor<2039x2039xf16>
}

// -----

// One factor has such rows already; a weight's copy costs nothing. It need not be longer.
// CHECK-LABEL: func.func @weight
// CHECK: %[[W:.*]] = "tile.weight"
// CHECK: "tile.graph"(%[[W]])
// CHECK: (tensor<1024x1001xf16>) -> tensor<1001x1024xf16>
// CHECK: "tile.graph"(%arg0, %
func.func @weight(%x: tensor<512x1024xf16>) -> tensor<512x1001xf16> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<1024x1001xf16>
  %0 = "graph.matmul"(%x, %w) : (tensor<512x1024xf16>, tensor<1024x1001xf16>) -> tensor<512x1001xf16>
  return %0 : tensor<512x1001xf16>
}

// -----

// Two products share a copy.
// CHECK-LABEL: func.func @shared
// CHECK: (tensor<2039x2039xf16>) -> tensor<2039x2048xf16>
// CHECK-NOT: (tensor<2039x2039xf16>) -> tensor<2039x2048xf16>
// CHECK: return
func.func @shared(%x: tensor<2039x2039xf16>, %v: tensor<2039x1024xf16>, %w: tensor<2039x2048xf16>) -> (tensor<2039x1024xf16>, tensor<2039x2048xf16>) {
  %0 = "graph.matmul"(%x, %v) : (tensor<2039x2039xf16>, tensor<2039x1024xf16>) -> tensor<2039x1024xf16>
  %1 = "graph.matmul"(%x, %w) : (tensor<2039x2039xf16>, tensor<2039x2048xf16>) -> tensor<2039x2048xf16>
  return %0, %1 : tensor<2039x1024xf16>, tensor<2039x2048xf16>
}

// -----

// Not worth two kernels more.
// CHECK-LABEL: func.func @small
// CHECK-NOT: tensor<67x72xf16>
// CHECK: return
func.func @small(%x: tensor<67x67xf16>, %w: tensor<67x67xf16>) -> tensor<67x67xf16> {
  %0 = "graph.matmul"(%x, %w) : (tensor<67x67xf16>, tensor<67x67xf16>) -> tensor<67x67xf16>
  return %0 : tensor<67x67xf16>
}

// -----

// A weight's copy alone: that of the few rows would cost a kernel.
// CHECK-LABEL: func.func @few_rows
// CHECK: (tensor<519x1001xf16>) -> tensor<1001x576xf16>
// CHECK-NOT: tensor<8x520xf16>
// CHECK: (tensor<8x519xf16>, tensor<1001x576xf16>) -> tensor<8x1001xf16>
func.func @few_rows(%x: tensor<8x519xf16>) -> tensor<8x1001xf16> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<519x1001xf16>
  %0 = "graph.matmul"(%x, %w) : (tensor<8x519xf16>, tensor<519x1001xf16>) -> tensor<8x1001xf16>
  return %0 : tensor<8x1001xf16>
}

// -----

// A depthwise convolution's windows are no products of matrices, and stay as they are.
// CHECK-LABEL: func.func @depthwise
// CHECK-NOT: 1020x1x8xf16
// CHECK: return
func.func @depthwise(%x: tensor<1x18x18x1020xf16>) -> tensor<1x16x16x510xf16> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<3x3x1x1020xf16>
  %0 = "graph.conv"(%x, %w) {dilations = [1, 1], groups = 1020 : i64, layout = "nhwc", strides = [1, 1]} : (tensor<1x18x18x1020xf16>, tensor<3x3x1x1020xf16>) -> tensor<1x16x16x1020xf16>
  %1 = "graph.slice"(%0) {sizes = [1, 16, 16, 510], starts = [0, 0, 0, 0], steps = [1, 1, 1, 1]} : (tensor<1x16x16x1020xf16>) -> tensor<1x16x16x510xf16>
  %2 = "graph.slice"(%0) {sizes = [1, 16, 16, 510], starts = [0, 0, 0, 510], steps = [1, 1, 1, 1]} : (tensor<1x16x16x1020xf16>) -> tensor<1x16x16x510xf16>
  %3 = "graph.elementwise"(%1) {fn = "gelu"} : (tensor<1x16x16x510xf16>) -> tensor<1x16x16x510xf16>
  %4 = "graph.elementwise"(%3, %2) {fn = "mul"} : (tensor<1x16x16x510xf16>, tensor<1x16x16x510xf16>) -> tensor<1x16x16x510xf16>
  return %4 : tensor<1x16x16x510xf16>
}
