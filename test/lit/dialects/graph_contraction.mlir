// graph, sums of products: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @matmul(
// CHECK: "graph.matmul"(%{{.*}}) {transpose_b = true}
func.func @matmul(%a: tensor<8x4x16xf32>, %b: tensor<32x16xf32>) {
  %y = "graph.matmul"(%a, %b) {transpose_b = true} : (tensor<8x4x16xf32>, tensor<32x16xf32>) -> tensor<8x4x32xf32>
  return
}

// CHECK-LABEL: func.func @einsum(
// CHECK: "graph.einsum"(%{{.*}}) {equation = "bik,bjk->bij"}
func.func @einsum(%a: tensor<2x3x4xf32>, %b: tensor<2x5x4xf32>) {
  %y = "graph.einsum"(%a, %b) {equation = "bik,bjk->bij"} : (tensor<2x3x4xf32>, tensor<2x5x4xf32>) -> tensor<2x3x5xf32>
  return
}

// CHECK-LABEL: func.func @determinant(
// CHECK: "graph.determinant"(%{{.*}})
func.func @determinant(%x: tensor<8x3x3xf32>) {
  %y = "graph.determinant"(%x) : (tensor<8x3x3xf32>) -> tensor<8xf32>
  return
}
