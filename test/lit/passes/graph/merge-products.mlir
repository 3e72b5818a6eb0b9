// merge-products: three projections of one value, each with its bias, become one product and slices; without threads they stay apart.
// RUN: %mlc-opt %s --target=cuda:sm_90a --merge-products | filecheck %s
// RUN: %mlc-opt %s --target=cpu:x86-64-v3 --merge-products | filecheck %s --check-prefix=CPU

// CHECK: %[[W:.*]] = "graph.concat"(%{{.*}}, %{{.*}}) {axis = 1
// CHECK: %[[Y:.*]] = "graph.matmul"(%{{.*}}, %[[W]]) : (tensor<4x8xf32>, tensor<8x48xf32>) -> tensor<4x48xf32>
// CHECK: %[[B:.*]] = "graph.concat"
// CHECK: %[[Z:.*]] = "graph.elementwise"(%[[Y]], %[[B]])
// CHECK-DAG: "graph.slice"(%[[Z]]) {{.*}}starts = [0, 0]
// CHECK-DAG: "graph.slice"(%[[Z]]) {{.*}}starts = [0, 16]
// CPU-NOT: graph.slice
func.func @main(%x: tensor<4x8xf32>) -> (tensor<4x16xf32>, tensor<4x32xf32>) {
  %w0 = "graph.weight"() {key = "w0"} : () -> tensor<8x16xf32>
  %b0 = "graph.weight"() {key = "b0"} : () -> tensor<16xf32>
  %y0 = "graph.matmul"(%x, %w0) : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
  %z0 = "graph.elementwise"(%y0, %b0) {fn = "add"} : (tensor<4x16xf32>, tensor<16xf32>) -> tensor<4x16xf32>
  %w1 = "graph.weight"() {key = "w1"} : () -> tensor<8x32xf32>
  %b1 = "graph.weight"() {key = "b1"} : () -> tensor<32xf32>
  %y1 = "graph.matmul"(%x, %w1) : (tensor<4x8xf32>, tensor<8x32xf32>) -> tensor<4x32xf32>
  %z1 = "graph.elementwise"(%y1, %b1) {fn = "add"} : (tensor<4x32xf32>, tensor<32xf32>) -> tensor<4x32xf32>
  return %z0, %z1 : tensor<4x16xf32>, tensor<4x32xf32>
}
