// Windows (torchvision swin): a bias per head, then a mask per window added in five dimensions.
// RUN: %mlc-opt %s --split-input-file --mlc-cse --simplify --sink-transposes --recognise --simplify | filecheck %s

// CHECK-LABEL: func.func @main
// CHECK: %[[MASK:.*]] = "graph.elementwise"({{.*}}) {fn = "add"} : (tensor<1x1x5x5xf32>, tensor<1x2x5x5xf32>)
// CHECK: "graph.attention"(%{{.*}}, %{{.*}}, %{{.*}}, %[[MASK]]) {scale = 5.0{{.*}}}
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
  %12 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %13 = "graph.elementwise"(%3, %12) {fn = "mul"} : (tensor<1x2x5x4xf32>, tensor<f32>) -> tensor<1x2x5x4xf32>
  %14 = "graph.transpose"(%7) {perm = [0, 1, 3, 2]} : (tensor<1x2x5x4xf32>) -> tensor<1x2x4x5xf32>
  %15 = "graph.matmul"(%13, %14) : (tensor<1x2x5x4xf32>, tensor<1x2x4x5xf32>) -> tensor<1x2x5x5xf32>
  %16 = "graph.weight"() {key = "bias"} : () -> tensor<1x2x5x5xf32>
  %17 = "graph.elementwise"(%15, %16) {fn = "add"} : (tensor<1x2x5x5xf32>, tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %18 = "graph.reshape"(%17) {shape = [1, 1, 2, 5, 5]} : (tensor<1x2x5x5xf32>) -> tensor<1x1x2x5x5xf32>
  %19 = "graph.weight"() {key = "windows"} : () -> tensor<1x1x1x5x5xf32>
  %20 = "graph.elementwise"(%18, %19) {fn = "add"} : (tensor<1x1x2x5x5xf32>, tensor<1x1x1x5x5xf32>) -> tensor<1x1x2x5x5xf32>
  %21 = "graph.reshape"(%20) {shape = [1, 2, 5, 5]} : (tensor<1x1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %22 = "graph.softmax"(%21) {axis = 3 : i64} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %23 = "graph.matmul"(%22, %11) : (tensor<1x2x5x5xf32>, tensor<1x2x5x4xf32>) -> tensor<1x2x5x4xf32>
  %24 = "graph.transpose"(%23) {perm = [0, 2, 1, 3]} : (tensor<1x2x5x4xf32>) -> tensor<1x5x2x4xf32>
  %25 = "graph.reshape"(%24) {shape = [1, 5, 8]} : (tensor<1x5x2x4xf32>) -> tensor<1x5x8xf32>
  return %25 : tensor<1x5x8xf32>
}
