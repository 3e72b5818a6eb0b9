// graph, reductions and scans over dimensions: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @reduce(
// CHECK: "graph.reduce"(%{{.*}}) {axes = [1], keepdims = true, kind = "sum"}
func.func @reduce(%x: tensor<2x3x4xf32>) {
  %y = "graph.reduce"(%x) {kind = "sum", axes = [1], keepdims = true} : (tensor<2x3x4xf32>) -> tensor<2x1x4xf32>
  return
}

// CHECK-LABEL: func.func @arg(
// CHECK: "graph.arg"(%{{.*}}) {axis = 1 : i64, kind = "max"}
func.func @arg(%x: tensor<2x5xf32>) {
  %i = "graph.arg"(%x) {kind = "max", axis = 1} : (tensor<2x5xf32>) -> tensor<2xi64>
  return
}

// CHECK-LABEL: func.func @scan(
// CHECK: "graph.scan"(%{{.*}}) {axis = 1 : i64, kind = "sum"}
func.func @scan(%x: tensor<2x5xf32>) {
  %y = "graph.scan"(%x) {kind = "sum", axis = 1} : (tensor<2x5xf32>) -> tensor<2x5xf32>
  return
}

// CHECK-LABEL: func.func @softmax(
// CHECK: "graph.softmax"(%{{.*}}) {axis = 1 : i64}
func.func @softmax(%x: tensor<4x10xf32>) {
  %y = "graph.softmax"(%x) {axis = 1} : (tensor<4x10xf32>) -> tensor<4x10xf32>
  return
}
