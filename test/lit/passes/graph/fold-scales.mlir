// Known factors per channel go into weights, and biases are added up; the arithmetic on weights stays for const-eval.
// RUN: %mlc-opt %s --split-input-file --fold-scales | filecheck %s

// (conv(x, w) + b) * s + t
// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.elementwise"({{.*}}) {fn = "mul"} : (tensor<6x2x3x3xf32>, tensor<6x1x1x1xf32>)
// CHECK: %[[Y:.*]] = "graph.conv"(%arg0, %[[W]])
// CHECK: "graph.elementwise"({{.*}}) {fn = "mul"} : (tensor<6x1x1xf32>, tensor<6x1x1xf32>)
// CHECK: %[[T:.*]] = "graph.elementwise"({{.*}}) {fn = "add"} : (tensor<6x1x1xf32>, tensor<6x1x1xf32>)
// CHECK: %[[Z:.*]] = "graph.elementwise"(%[[Y]], %[[T]]) {fn = "add"}
// CHECK-NEXT: return %[[Z]]

func.func @main(%arg0: tensor<1x4x5x5xf32>) -> tensor<1x6x3x3xf32> {
  %0 = "graph.weight"() {key = "w"} : () -> tensor<6x2x3x3xf32>
  %1 = "graph.conv"(%arg0, %0) {dilations = [1, 1], groups = 2 : i64, strides = [1, 1]} : (tensor<1x4x5x5xf32>, tensor<6x2x3x3xf32>) -> tensor<1x6x3x3xf32>
  %2 = "graph.weight"() {key = "b"} : () -> tensor<6x1x1xf32>
  %3 = "graph.elementwise"(%1, %2) {fn = "add"} : (tensor<1x6x3x3xf32>, tensor<6x1x1xf32>) -> tensor<1x6x3x3xf32>
  %4 = "graph.weight"() {key = "s"} : () -> tensor<6x1x1xf32>
  %5 = "graph.elementwise"(%3, %4) {fn = "mul"} : (tensor<1x6x3x3xf32>, tensor<6x1x1xf32>) -> tensor<1x6x3x3xf32>
  %6 = "graph.weight"() {key = "t"} : () -> tensor<6x1x1xf32>
  %7 = "graph.elementwise"(%5, %6) {fn = "add"} : (tensor<1x6x3x3xf32>, tensor<6x1x1xf32>) -> tensor<1x6x3x3xf32>
  return %7 : tensor<1x6x3x3xf32>
}

// -----

// rows of a transposed weight
// CHECK-LABEL: func.func @main
// CHECK: %[[S:.*]] = "graph.reshape"({{.*}}) {shape = [6, 1]}
// CHECK: %[[W:.*]] = "graph.elementwise"(%{{.*}}, %[[S]]) {fn = "mul"}
// CHECK: "graph.matmul"(%arg0, %[[W]]) {transpose_b = true}
// CHECK-NEXT: return

func.func @main(%arg0: tensor<3x4xf32>) -> tensor<3x6xf32> {
  %0 = "graph.weight"() {key = "w"} : () -> tensor<6x4xf32>
  %1 = "graph.matmul"(%arg0, %0) {transpose_b = true} : (tensor<3x4xf32>, tensor<6x4xf32>) -> tensor<3x6xf32>
  %2 = "graph.weight"() {key = "s"} : () -> tensor<6xf32>
  %3 = "graph.elementwise"(%1, %2) {fn = "mul"} : (tensor<3x6xf32>, tensor<6xf32>) -> tensor<3x6xf32>
  return %3 : tensor<3x6xf32>
}

// -----

// a factor that is computed stays
// CHECK-LABEL: func.func @main
// CHECK: "graph.matmul"
// CHECK-NEXT: {{.*}}fn = "mul"

func.func @main(%arg0: tensor<3x4xf32>, %arg1: tensor<6xf32>) -> tensor<3x6xf32> {
  %0 = "graph.weight"() {key = "w"} : () -> tensor<4x6xf32>
  %1 = "graph.matmul"(%arg0, %0) : (tensor<3x4xf32>, tensor<4x6xf32>) -> tensor<3x6xf32>
  %2 = "graph.elementwise"(%1, %arg1) {fn = "mul"} : (tensor<3x6xf32>, tensor<6xf32>) -> tensor<3x6xf32>
  return %2 : tensor<3x6xf32>
}

// -----

// Weights of 16 bits would be rounded once more: the factor stays, unless it is a power of two.
// CHECK-LABEL: func.func @narrow
// CHECK: "graph.matmul"(%arg0, %{{[0-9]+}}) : (tensor<4x8xf16>, tensor<8x8xf16>)
// CHECK: "graph.elementwise"({{.*}}) {fn = "mul"} : {{.*}} -> tensor<4x8xf16>
func.func @narrow(%x: tensor<4x8xf16>) -> tensor<4x8xf16> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<8x8xf16>
  %s = "graph.weight"() {key = "s"} : () -> tensor<8xf16>
  %0 = "graph.matmul"(%x, %w) : (tensor<4x8xf16>, tensor<8x8xf16>) -> tensor<4x8xf16>
  %1 = "graph.elementwise"(%0, %s) {fn = "mul"} : (tensor<4x8xf16>, tensor<8xf16>) -> tensor<4x8xf16>
  return %1 : tensor<4x8xf16>
}

// -----

// CHECK-LABEL: func.func @power_of_two
// CHECK: "graph.elementwise"({{.*}}) {fn = "mul"} : {{.*}} -> tensor<8x8xf16>
// CHECK: "graph.matmul"
// CHECK-NEXT: return
func.func @power_of_two(%x: tensor<4x8xf16>) -> tensor<4x8xf16> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<8x8xf16>
  %s = "graph.constant"() {bytes = "0030"} : () -> tensor<f16>
  %0 = "graph.matmul"(%x, %w) : (tensor<4x8xf16>, tensor<8x8xf16>) -> tensor<4x8xf16>
  %1 = "graph.elementwise"(%0, %s) {fn = "mul"} : (tensor<4x8xf16>, tensor<f16>) -> tensor<4x8xf16>
  return %1 : tensor<4x8xf16>
}
