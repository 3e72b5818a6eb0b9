// Arithmetic and movement of small constants; integer division, which numpy rounds otherwise, and weights are left.
// RUN: %mlc-opt %s --split-input-file --fold-constants | filecheck %s

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[C:.*]] = "graph.constant"() {bytes = "0000000000000040000080400000C040"} : () -> tensor<2x2xf32>
// CHECK-NEXT: {{.*}}"graph.elementwise"(%arg0, %[[C]])

func.func @main(%arg0: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %0 = "graph.constant"() {bytes = "000000000000803F0000004000004040"} : () -> tensor<2x2xf32>
  %1 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %2 = "graph.elementwise"(%0, %1) {fn = "mul"} : (tensor<2x2xf32>, tensor<f32>) -> tensor<2x2xf32>
  %3 = "graph.elementwise"(%arg0, %2) {fn = "add"} : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  return %3 : tensor<2x2xf32>
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: fn = "div"
// CHECK: fn = "mul"

func.func @main(%arg0: tensor<1xf32>) -> (tensor<i32>, tensor<3xf32>) {
  %0 = "graph.constant"() {bytes = "F9FFFFFF"} : () -> tensor<i32>
  %1 = "graph.constant"() {bytes = "02000000"} : () -> tensor<i32>
  %2 = "graph.elementwise"(%0, %1) {fn = "div"} : (tensor<i32>, tensor<i32>) -> tensor<i32>
  %3 = "graph.weight"() {key = "w"} : () -> tensor<3xf32>
  %4 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %5 = "graph.elementwise"(%3, %4) {fn = "mul"} : (tensor<3xf32>, tensor<f32>) -> tensor<3xf32>
  return %2, %5 : tensor<i32>, tensor<3xf32>
}
