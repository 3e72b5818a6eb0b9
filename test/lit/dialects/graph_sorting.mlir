// graph, order: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @topk(
// CHECK: "graph.topk"(%{{.*}}) {axis = 1 : i64, k = 2 : i64}
func.func @topk(%x: tensor<3x8xf32>) {
  %v, %i = "graph.topk"(%x) {k = 2, axis = 1} : (tensor<3x8xf32>) -> (tensor<3x2xf32>, tensor<3x2xi64>)
  return
}

// CHECK-LABEL: func.func @unique(
// CHECK: "graph.unique"(%{{.*}})
func.func @unique(%x: tensor<6x2xf32>) {
  %y, %first, %inverse, %counts, %n = "graph.unique"(%x)
    : (tensor<6x2xf32>) -> (tensor<6x2xf32>, tensor<6xi64>, tensor<6xi64>, tensor<6xi64>, tensor<i64>)
  return
}

// CHECK-LABEL: func.func @nms(
// CHECK: "graph.nms"(%{{.*}}) {rows = 12 : i64}
func.func @nms(%boxes: tensor<1x6x4xf32>, %scores: tensor<1x2x6xf32>, %limit: tensor<i64>, %iou: tensor<f32>, %least: tensor<f32>) {
  %y, %n = "graph.nms"(%boxes, %scores, %limit, %iou, %least) {rows = 12}
    : (tensor<1x6x4xf32>, tensor<1x2x6xf32>, tensor<i64>, tensor<f32>, tensor<f32>) -> (tensor<12x3xi64>, tensor<i64>)
  return
}
