// Transposes move down to where they cancel, shrink or are absorbed; otherwise they stay.
// RUN: %mlc-opt %s --split-input-file --sink-transposes | filecheck %s

// cancels through arithmetic and a concat
// CHECK-LABEL: func.func @main
// CHECK: "graph.reshape"({{.*}}) {shape = [1, 1, 1, 6]}
// CHECK-NOT: graph.transpose
// CHECK: "graph.concat"({{.*}}) {axis = 3

func.func @main(%arg0: tensor<1x3x4x6xf32>) -> tensor<1x3x4x12xf32> {
  %0 = "graph.transpose"(%arg0) {perm = [0, 3, 1, 2]} : (tensor<1x3x4x6xf32>) -> tensor<1x6x3x4xf32>
  %1 = "graph.elementwise"(%0) {fn = "relu"} : (tensor<1x6x3x4xf32>) -> tensor<1x6x3x4xf32>
  %2 = "graph.weight"() {key = "b"} : () -> tensor<6x1x1xf32>
  %3 = "graph.elementwise"(%1, %2) {fn = "add"} : (tensor<1x6x3x4xf32>, tensor<6x1x1xf32>) -> tensor<1x6x3x4xf32>
  %4 = "graph.elementwise"(%3) {fn = "exp"} : (tensor<1x6x3x4xf32>) -> tensor<1x6x3x4xf32>
  %5 = "graph.concat"(%3, %4) {axis = 1 : i64} : (tensor<1x6x3x4xf32>, tensor<1x6x3x4xf32>) -> tensor<1x12x3x4xf32>
  %6 = "graph.transpose"(%5) {perm = [0, 2, 3, 1]} : (tensor<1x12x3x4xf32>) -> tensor<1x3x4x12xf32>
  return %6 : tensor<1x3x4x12xf32>
}

// -----

// a reduction needs none
// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.transpose
// CHECK: "graph.reduce"({{.*}}) {axes = [1, 2]

func.func @main(%arg0: tensor<2x3x4x5xf32>) -> tensor<2x5xf32> {
  %0 = "graph.transpose"(%arg0) {perm = [0, 3, 1, 2]} : (tensor<2x3x4x5xf32>) -> tensor<2x5x3x4xf32>
  %1 = "graph.elementwise"(%0) {fn = "relu"} : (tensor<2x5x3x4xf32>) -> tensor<2x5x3x4xf32>
  %2 = "graph.reduce"(%1) {axes = [2, 3], kind = "mean"} : (tensor<2x5x3x4xf32>) -> tensor<2x5xf32>
  return %2 : tensor<2x5xf32>
}

// -----

// a matmul reads the last two swapped; scaling in between does not matter
// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.transpose
// CHECK: "graph.matmul"({{.*}}) {transpose_b = true}

func.func @main(%arg0: tensor<2x5x4xf32>, %arg1: tensor<2x3x4xf32>) -> tensor<2x5x3xf32> {
  %0 = "graph.transpose"(%arg1) {perm = [0, 2, 1]} : (tensor<2x3x4xf32>) -> tensor<2x4x3xf32>
  %1 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %2 = "graph.elementwise"(%0, %1) {fn = "mul"} : (tensor<2x4x3xf32>, tensor<f32>) -> tensor<2x4x3xf32>
  %3 = "graph.matmul"(%arg0, %2) : (tensor<2x5x4xf32>, tensor<2x4x3xf32>) -> tensor<2x5x3xf32>
  return %3 : tensor<2x5x3xf32>
}

// -----

// nothing gained
// CHECK-LABEL: func.func @main
// CHECK-NEXT: {{.*}}graph.transpose
// CHECK-NEXT: {{.*}}fn = "relu"

func.func @main(%arg0: tensor<3x4xf32>) -> tensor<4x3xf32> {
  %0 = "graph.transpose"(%arg0) {perm = [1, 0]} : (tensor<3x4xf32>) -> tensor<4x3xf32>
  %1 = "graph.elementwise"(%0) {fn = "relu"} : (tensor<4x3xf32>) -> tensor<4x3xf32>
  return %1 : tensor<4x3xf32>
}
