// graph, lookup: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @find(
// CHECK: "graph.find"(%{{.*}})
func.func @find(%x: tensor<2x3xi64>, %keys: tensor<5xi64>) {
  %y = "graph.find"(%x, %keys) : (tensor<2x3xi64>, tensor<5xi64>) -> tensor<2x3xi64>
  return
}

// CHECK-LABEL: func.func @tree_leaves(
// CHECK: "graph.tree_leaves"(%{{.*}})
func.func @tree_leaves(%x: tensor<8x3xf32>, %feature: tensor<7xi64>, %mode: tensor<7xui8>, %split: tensor<7xf32>,
    %yes: tensor<7xi64>, %no: tensor<7xi64>, %missing: tensor<7xi1>, %span: tensor<7x2xi64>, %members: tensor<1xf32>,
    %roots: tensor<2xi64>) {
  %leaf = "graph.tree_leaves"(%x, %feature, %mode, %split, %yes, %no, %missing, %span, %members, %roots)
    : (tensor<8x3xf32>, tensor<7xi64>, tensor<7xui8>, tensor<7xf32>, tensor<7xi64>, tensor<7xi64>, tensor<7xi1>, tensor<7x2xi64>,
    tensor<1xf32>, tensor<2xi64>) -> tensor<8x2xi64>
  return
}
