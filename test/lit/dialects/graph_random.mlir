// graph, random: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @random(
// CHECK: "graph.random"() {distribution = "uniform", seed = 7 : i64, shape = [2, 3], to = f32}
func.func @random() {
  %y = "graph.random"() {shape = [2, 3], distribution = "uniform", seed = 7, to = f32} : () -> tensor<2x3xf32>
  return
}
