// torch.onnx.export(dynamo=True), opset 18 (HF bert, gpt2; vit alike): scale on q and on k, keys transposed flat, additive mask, guard.
// RUN: %mlc-opt %s --split-input-file --mlc-cse --simplify --sink-transposes --recognise --simplify | filecheck %s

// The mask is finite, so it stays an addend; 0.7071 * 0.7071 becomes the scale.
// CHECK-LABEL: func.func @main
// CHECK: %[[MASK:.*]] = "graph.elementwise"({{.*}}) {fn = "where"} : (tensor<1x1x5x5xi1>
// CHECK-NOT: graph.softmax
// CHECK-NOT: is_nan
// CHECK: "graph.attention"(%{{.*}}, %{{.*}}, %{{.*}}, %[[MASK]]) {scale = 0.49999{{.*}}} : (tensor<1x2x5x4xf32>, tensor<1x2x5x4xf32>, tensor<1x2x5x4xf32>, tensor<1x1x5x5xf32>)
// CHECK-NOT: graph.softmax

func.func @main(%arg0: tensor<1x5x8xf32>) -> tensor<1x5x8xf32> {
  %0 = "graph.weight"() {key = "q"} : () -> tensor<8x8xf32>
  %1 = "graph.matmul"(%arg0, %0) : (tensor<1x5x8xf32>, tensor<8x8xf32>) -> tensor<1x5x8xf32>
  %2 = "graph.reshape"(%1) {shape = [1, 5, 2, 4]} : (tensor<1x5x8xf32>) -> tensor<1x5x2x4xf32>
  %3 = "graph.transpose"(%2) {perm = [0, 2, 1, 3]} : (tensor<1x5x2x4xf32>) -> tensor<1x2x5x4xf32>
  %4 = "graph.weight"() {key = "k"} : () -> tensor<8x8xf32>
  %5 = "graph.matmul"(%arg0, %4) : (tensor<1x5x8xf32>, tensor<8x8xf32>) -> tensor<1x5x8xf32>
  %6 = "graph.reshape"(%5) {shape = [1, 5, 2, 4]} : (tensor<1x5x8xf32>) -> tensor<1x5x2x4xf32>
  %7 = "graph.transpose"(%6) {perm = [0, 2, 1, 3]} : (tensor<1x5x2x4xf32>) -> tensor<1x2x5x4xf32>
  %8 = "graph.weight"() {key = "v"} : () -> tensor<8x8xf32>
  %9 = "graph.matmul"(%arg0, %8) : (tensor<1x5x8xf32>, tensor<8x8xf32>) -> tensor<1x5x8xf32>
  %10 = "graph.reshape"(%9) {shape = [1, 5, 2, 4]} : (tensor<1x5x8xf32>) -> tensor<1x5x2x4xf32>
  %11 = "graph.transpose"(%10) {perm = [0, 2, 1, 3]} : (tensor<1x5x2x4xf32>) -> tensor<1x2x5x4xf32>
  %12 = "graph.constant"() {bytes = "F304353F"} : () -> tensor<f32>
  %13 = "graph.elementwise"(%3, %12) {fn = "mul"} : (tensor<1x2x5x4xf32>, tensor<f32>) -> tensor<1x2x5x4xf32>
  %14 = "graph.reshape"(%7) {shape = [2, 5, 4]} : (tensor<1x2x5x4xf32>) -> tensor<2x5x4xf32>
  %15 = "graph.transpose"(%14) {perm = [0, 2, 1]} : (tensor<2x5x4xf32>) -> tensor<2x4x5xf32>
  %16 = "graph.reshape"(%15) {shape = [1, 2, 4, 5]} : (tensor<2x4x5xf32>) -> tensor<1x2x4x5xf32>
  %17 = "graph.constant"() {bytes = "F304353F"} : () -> tensor<f32>
  %18 = "graph.elementwise"(%16, %17) {fn = "mul"} : (tensor<1x2x4x5xf32>, tensor<f32>) -> tensor<1x2x4x5xf32>
  %19 = "graph.matmul"(%13, %18) : (tensor<1x2x5x4xf32>, tensor<1x2x4x5xf32>) -> tensor<1x2x5x5xf32>
  %20 = "graph.weight"() {key = "seen"} : () -> tensor<1x1x5x5xi1>
  %21 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %22 = "graph.constant"() {bytes = "9EC97FFF"} : () -> tensor<f32>
  %23 = "graph.elementwise"(%20, %21, %22) {fn = "where"} : (tensor<1x1x5x5xi1>, tensor<f32>, tensor<f32>) -> tensor<1x1x5x5xf32>
  %24 = "graph.elementwise"(%19, %23) {fn = "add"} : (tensor<1x2x5x5xf32>, tensor<1x1x5x5xf32>) -> tensor<1x2x5x5xf32>
  %25 = "graph.softmax"(%24) {axis = 3 : i64} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %26 = "graph.elementwise"(%25) {fn = "is_nan"} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xi1>
  %27 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %28 = "graph.elementwise"(%26, %27, %25) {fn = "where"} : (tensor<1x2x5x5xi1>, tensor<f32>, tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %29 = "graph.matmul"(%28, %11) : (tensor<1x2x5x5xf32>, tensor<1x2x5x4xf32>) -> tensor<1x2x5x4xf32>
  %30 = "graph.transpose"(%29) {perm = [0, 2, 1, 3]} : (tensor<1x2x5x4xf32>) -> tensor<1x5x2x4xf32>
  %31 = "graph.reshape"(%30) {shape = [1, 5, 8]} : (tensor<1x5x2x4xf32>) -> tensor<1x5x8xf32>
  return %31 : tensor<1x5x8xf32>
}
