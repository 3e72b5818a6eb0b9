// graph, values known at compile time: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @weight(
// CHECK: "graph.weight"() {key = "fc.weight"}
func.func @weight() {
  %w = "graph.weight"() {key = "fc.weight"} : () -> tensor<10x4xf32>
  return
}

// CHECK-LABEL: func.func @constant(
// CHECK: "graph.constant"() {bytes = "0000803F00000040"}
func.func @constant() {
  %c = "graph.constant"() {bytes = "0000803F00000040"} : () -> tensor<2xf32>
  return
}
