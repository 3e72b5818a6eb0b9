// Without the guard, a run-time mask of -inf may hide whole rows: they are NaN then, and would be zeros in the op.
// RUN: %mlc-opt %s --split-input-file --mlc-cse --simplify --sink-transposes --recognise --simplify | filecheck %s

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.attention
// CHECK: graph.softmax

func.func @main(%arg0: tensor<1x1x5x4xf32>, %arg1: tensor<1x1x5x5xi1>) -> tensor<1x1x5x4xf32> {
  %0 = "graph.matmul"(%arg0, %arg0) {transpose_b = true} : (tensor<1x1x5x4xf32>, tensor<1x1x5x4xf32>) -> tensor<1x1x5x5xf32>
  %1 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %2 = "graph.constant"() {bytes = "000080FF"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%arg1, %1, %2) {fn = "where"} : (tensor<1x1x5x5xi1>, tensor<f32>, tensor<f32>) -> tensor<1x1x5x5xf32>
  %4 = "graph.elementwise"(%0, %3) {fn = "add"} : (tensor<1x1x5x5xf32>, tensor<1x1x5x5xf32>) -> tensor<1x1x5x5xf32>
  %5 = "graph.softmax"(%4) {axis = 3 : i64} : (tensor<1x1x5x5xf32>) -> tensor<1x1x5x5xf32>
  %6 = "graph.matmul"(%5, %arg0) : (tensor<1x1x5x5xf32>, tensor<1x1x5x4xf32>) -> tensor<1x1x5x4xf32>
  return %6 : tensor<1x1x5x4xf32>
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: graph.attention
// CHECK-NOT: graph.softmax

func.func @main(%arg0: tensor<1x1x5x4xf32>, %arg1: tensor<1x1x5x5xi1>) -> tensor<1x1x5x4xf32> {
  %0 = "graph.matmul"(%arg0, %arg0) {transpose_b = true} : (tensor<1x1x5x4xf32>, tensor<1x1x5x4xf32>) -> tensor<1x1x5x5xf32>
  %1 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %2 = "graph.constant"() {bytes = "000080FF"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%arg1, %1, %2) {fn = "where"} : (tensor<1x1x5x5xi1>, tensor<f32>, tensor<f32>) -> tensor<1x1x5x5xf32>
  %4 = "graph.elementwise"(%0, %3) {fn = "add"} : (tensor<1x1x5x5xf32>, tensor<1x1x5x5xf32>) -> tensor<1x1x5x5xf32>
  %5 = "graph.softmax"(%4) {axis = 3 : i64} : (tensor<1x1x5x5xf32>) -> tensor<1x1x5x5xf32>
  %6 = "graph.elementwise"(%5) {fn = "is_nan"} : (tensor<1x1x5x5xf32>) -> tensor<1x1x5x5xi1>
  %7 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %8 = "graph.elementwise"(%6, %7, %5) {fn = "where"} : (tensor<1x1x5x5xi1>, tensor<f32>, tensor<1x1x5x5xf32>) -> tensor<1x1x5x5xf32>
  %9 = "graph.matmul"(%8, %arg0) : (tensor<1x1x5x5xf32>, tensor<1x1x5x4xf32>) -> tensor<1x1x5x4xf32>
  return %9 : tensor<1x1x5x4xf32>
}
