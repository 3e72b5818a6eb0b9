// Grouped heads (HF llama): opset 18 writes everything out over expanded keys and values; at opset 23 the op stands over them.
// RUN: %mlc-opt %s --split-input-file --mlc-cse --simplify --sink-transposes --recognise --simplify | filecheck %s

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.broadcast
// CHECK: "graph.attention"({{.*}}) {scale = 0.49999{{.*}}} : (tensor<1x2x5x4xf32>, tensor<1x1x5x4xf32>, tensor<1x1x5x4xf32>, tensor<1x1x5x5xf32>)
// CHECK-NOT: graph.softmax

func.func @main(%arg0: tensor<1x5x8xf32>) -> tensor<1x5x8xf32> {
  %0 = "graph.weight"() {key = "q"} : () -> tensor<8x8xf32>
  %1 = "graph.matmul"(%arg0, %0) : (tensor<1x5x8xf32>, tensor<8x8xf32>) -> tensor<1x5x8xf32>
  %2 = "graph.reshape"(%1) {shape = [1, 5, 2, 4]} : (tensor<1x5x8xf32>) -> tensor<1x5x2x4xf32>
  %3 = "graph.transpose"(%2) {perm = [0, 2, 1, 3]} : (tensor<1x5x2x4xf32>) -> tensor<1x2x5x4xf32>
  %4 = "graph.weight"() {key = "k1"} : () -> tensor<8x4xf32>
  %5 = "graph.matmul"(%arg0, %4) : (tensor<1x5x8xf32>, tensor<8x4xf32>) -> tensor<1x5x4xf32>
  %6 = "graph.reshape"(%5) {shape = [1, 5, 1, 4]} : (tensor<1x5x4xf32>) -> tensor<1x5x1x4xf32>
  %7 = "graph.transpose"(%6) {perm = [0, 2, 1, 3]} : (tensor<1x5x1x4xf32>) -> tensor<1x1x5x4xf32>
  %8 = "graph.reshape"(%7) {shape = [1, 1, 1, 5, 4]} : (tensor<1x1x5x4xf32>) -> tensor<1x1x1x5x4xf32>
  %9 = "graph.broadcast"(%8) {shape = [1, 1, 2, 5, 4]} : (tensor<1x1x1x5x4xf32>) -> tensor<1x1x2x5x4xf32>
  %10 = "graph.reshape"(%9) {shape = [2, 5, 4]} : (tensor<1x1x2x5x4xf32>) -> tensor<2x5x4xf32>
  %11 = "graph.transpose"(%10) {perm = [0, 2, 1]} : (tensor<2x5x4xf32>) -> tensor<2x4x5xf32>
  %12 = "graph.reshape"(%11) {shape = [1, 2, 4, 5]} : (tensor<2x4x5xf32>) -> tensor<1x2x4x5xf32>
  %13 = "graph.constant"() {bytes = "F304353F"} : () -> tensor<f32>
  %14 = "graph.elementwise"(%3, %13) {fn = "mul"} : (tensor<1x2x5x4xf32>, tensor<f32>) -> tensor<1x2x5x4xf32>
  %15 = "graph.constant"() {bytes = "F304353F"} : () -> tensor<f32>
  %16 = "graph.elementwise"(%12, %15) {fn = "mul"} : (tensor<1x2x4x5xf32>, tensor<f32>) -> tensor<1x2x4x5xf32>
  %17 = "graph.matmul"(%14, %16) : (tensor<1x2x5x4xf32>, tensor<1x2x4x5xf32>) -> tensor<1x2x5x5xf32>
  %18 = "graph.weight"() {key = "mask"} : () -> tensor<1x1x5x5xf32>
  %19 = "graph.elementwise"(%17, %18) {fn = "add"} : (tensor<1x2x5x5xf32>, tensor<1x1x5x5xf32>) -> tensor<1x2x5x5xf32>
  %20 = "graph.softmax"(%19) {axis = 3 : i64} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %21 = "graph.elementwise"(%20) {fn = "is_nan"} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xi1>
  %22 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %23 = "graph.elementwise"(%21, %22, %20) {fn = "where"} : (tensor<1x2x5x5xi1>, tensor<f32>, tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %24 = "graph.weight"() {key = "v1"} : () -> tensor<8x4xf32>
  %25 = "graph.matmul"(%arg0, %24) : (tensor<1x5x8xf32>, tensor<8x4xf32>) -> tensor<1x5x4xf32>
  %26 = "graph.reshape"(%25) {shape = [1, 5, 1, 4]} : (tensor<1x5x4xf32>) -> tensor<1x5x1x4xf32>
  %27 = "graph.transpose"(%26) {perm = [0, 2, 1, 3]} : (tensor<1x5x1x4xf32>) -> tensor<1x1x5x4xf32>
  %28 = "graph.reshape"(%27) {shape = [1, 1, 1, 5, 4]} : (tensor<1x1x5x4xf32>) -> tensor<1x1x1x5x4xf32>
  %29 = "graph.broadcast"(%28) {shape = [1, 1, 2, 5, 4]} : (tensor<1x1x1x5x4xf32>) -> tensor<1x1x2x5x4xf32>
  %30 = "graph.reshape"(%29) {shape = [1, 2, 5, 4]} : (tensor<1x1x2x5x4xf32>) -> tensor<1x2x5x4xf32>
  %31 = "graph.matmul"(%23, %30) : (tensor<1x2x5x5xf32>, tensor<1x2x5x4xf32>) -> tensor<1x2x5x4xf32>
  %32 = "graph.transpose"(%31) {perm = [0, 2, 1, 3]} : (tensor<1x2x5x4xf32>) -> tensor<1x5x2x4xf32>
  %33 = "graph.reshape"(%32) {shape = [1, 5, 8]} : (tensor<1x5x2x4xf32>) -> tensor<1x5x8xf32>
  return %33 : tensor<1x5x8xf32>
}

// -----

// CHECK-LABEL: func.func @main
// CHECK-NEXT: "graph.attention"(%arg0, %arg1, %arg2) {scale = 5.0{{.*}}}
// CHECK-NEXT: return

func.func @main(%arg0: tensor<1x6x5x4xf32>, %arg1: tensor<1x2x5x4xf32>, %arg2: tensor<1x2x5x4xf32>) -> tensor<1x6x5x4xf32> {
  %0 = "graph.reshape"(%arg1) {shape = [1, 2, 1, 5, 4]} : (tensor<1x2x5x4xf32>) -> tensor<1x2x1x5x4xf32>
  %1 = "graph.broadcast"(%0) {shape = [1, 2, 3, 5, 4]} : (tensor<1x2x1x5x4xf32>) -> tensor<1x2x3x5x4xf32>
  %2 = "graph.reshape"(%1) {shape = [1, 6, 5, 4]} : (tensor<1x2x3x5x4xf32>) -> tensor<1x6x5x4xf32>
  %3 = "graph.reshape"(%arg2) {shape = [1, 2, 1, 5, 4]} : (tensor<1x2x5x4xf32>) -> tensor<1x2x1x5x4xf32>
  %4 = "graph.broadcast"(%3) {shape = [1, 2, 3, 5, 4]} : (tensor<1x2x1x5x4xf32>) -> tensor<1x2x3x5x4xf32>
  %5 = "graph.reshape"(%4) {shape = [1, 6, 5, 4]} : (tensor<1x2x3x5x4xf32>) -> tensor<1x6x5x4xf32>
  %6 = "graph.attention"(%arg0, %2, %5) {scale = 5.000000e-01 : f64} : (tensor<1x6x5x4xf32>, tensor<1x6x5x4xf32>, tensor<1x6x5x4xf32>) -> tensor<1x6x5x4xf32>
  return %6 : tensor<1x6x5x4xf32>
}
