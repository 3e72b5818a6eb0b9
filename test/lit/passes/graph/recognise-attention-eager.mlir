// Eager attention (HF): scores divided by a square root, a mask added or filled in, the softmax written out; also bmm over heads.
// RUN: %mlc-opt %s --split-input-file --mlc-cse --simplify --sink-transposes --recognise --simplify | filecheck %s

// CHECK-LABEL: func.func @main
// CHECK: "graph.attention"({{.*}}) {scale = 5.0{{.*}}}
// CHECK-NOT: exp

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
  %12 = "graph.transpose"(%7) {perm = [0, 1, 3, 2]} : (tensor<1x2x5x4xf32>) -> tensor<1x2x4x5xf32>
  %13 = "graph.matmul"(%3, %12) : (tensor<1x2x5x4xf32>, tensor<1x2x4x5xf32>) -> tensor<1x2x5x5xf32>
  %14 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %15 = "graph.elementwise"(%13, %14) {fn = "div"} : (tensor<1x2x5x5xf32>, tensor<f32>) -> tensor<1x2x5x5xf32>
  %16 = "graph.weight"() {key = "seen"} : () -> tensor<1x1x5x5xi1>
  %17 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %18 = "graph.constant"() {bytes = "00401CC6"} : () -> tensor<f32>
  %19 = "graph.elementwise"(%16, %17, %18) {fn = "where"} : (tensor<1x1x5x5xi1>, tensor<f32>, tensor<f32>) -> tensor<1x1x5x5xf32>
  %20 = "graph.elementwise"(%15, %19) {fn = "add"} : (tensor<1x2x5x5xf32>, tensor<1x1x5x5xf32>) -> tensor<1x2x5x5xf32>
  %21 = "graph.reduce"(%20) {axes = [3], keepdims = true, kind = "max"} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x1xf32>
  %22 = "graph.elementwise"(%20, %21) {fn = "sub"} : (tensor<1x2x5x5xf32>, tensor<1x2x5x1xf32>) -> tensor<1x2x5x5xf32>
  %23 = "graph.elementwise"(%22) {fn = "exp"} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %24 = "graph.reduce"(%23) {axes = [3], keepdims = true, kind = "sum"} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x1xf32>
  %25 = "graph.elementwise"(%23, %24) {fn = "div"} : (tensor<1x2x5x5xf32>, tensor<1x2x5x1xf32>) -> tensor<1x2x5x5xf32>
  %26 = "graph.matmul"(%25, %11) : (tensor<1x2x5x5xf32>, tensor<1x2x5x4xf32>) -> tensor<1x2x5x4xf32>
  %27 = "graph.transpose"(%26) {perm = [0, 2, 1, 3]} : (tensor<1x2x5x4xf32>) -> tensor<1x5x2x4xf32>
  %28 = "graph.reshape"(%27) {shape = [1, 5, 8]} : (tensor<1x5x2x4xf32>) -> tensor<1x5x8xf32>
  return %28 : tensor<1x5x8xf32>
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: "graph.elementwise"({{.*}}) {fn = "where"} : (tensor<1x1x5x5xi1>, tensor<f32>, tensor<f32>)
// CHECK: "graph.attention"({{.*}}) {scale = 5.0{{.*}}}

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
  %16 = "graph.weight"() {key = "seen"} : () -> tensor<1x1x5x5xi1>
  %17 = "graph.constant"() {bytes = "286B6ECE"} : () -> tensor<f32>
  %18 = "graph.elementwise"(%16, %15, %17) {fn = "where"} : (tensor<1x1x5x5xi1>, tensor<1x2x5x5xf32>, tensor<f32>) -> tensor<1x2x5x5xf32>
  %19 = "graph.softmax"(%18) {axis = 3 : i64} : (tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %20 = "graph.matmul"(%19, %11) : (tensor<1x2x5x5xf32>, tensor<1x2x5x4xf32>) -> tensor<1x2x5x4xf32>
  %21 = "graph.transpose"(%20) {perm = [0, 2, 1, 3]} : (tensor<1x2x5x4xf32>) -> tensor<1x5x2x4xf32>
  %22 = "graph.reshape"(%21) {shape = [1, 5, 8]} : (tensor<1x5x2x4xf32>) -> tensor<1x5x8xf32>
  return %22 : tensor<1x5x8xf32>
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: "graph.attention"({{.*}}) {scale = 5.0{{.*}}} : (tensor<2x1x5x4xf32>, tensor<2x1x5x4xf32>, tensor<2x1x5x4xf32>)

func.func @main(%arg0: tensor<1x5x8xf32>) -> tensor<1x5x8xf32> {
  %0 = "graph.weight"() {key = "q"} : () -> tensor<8x8xf32>
  %1 = "graph.matmul"(%arg0, %0) : (tensor<1x5x8xf32>, tensor<8x8xf32>) -> tensor<1x5x8xf32>
  %2 = "graph.reshape"(%1) {shape = [1, 5, 2, 4]} : (tensor<1x5x8xf32>) -> tensor<1x5x2x4xf32>
  %3 = "graph.transpose"(%2) {perm = [0, 2, 1, 3]} : (tensor<1x5x2x4xf32>) -> tensor<1x2x5x4xf32>
  %4 = "graph.reshape"(%3) {shape = [2, 5, 4]} : (tensor<1x2x5x4xf32>) -> tensor<2x5x4xf32>
  %5 = "graph.weight"() {key = "k"} : () -> tensor<8x8xf32>
  %6 = "graph.matmul"(%arg0, %5) : (tensor<1x5x8xf32>, tensor<8x8xf32>) -> tensor<1x5x8xf32>
  %7 = "graph.reshape"(%6) {shape = [1, 5, 2, 4]} : (tensor<1x5x8xf32>) -> tensor<1x5x2x4xf32>
  %8 = "graph.transpose"(%7) {perm = [0, 2, 1, 3]} : (tensor<1x5x2x4xf32>) -> tensor<1x2x5x4xf32>
  %9 = "graph.reshape"(%8) {shape = [2, 5, 4]} : (tensor<1x2x5x4xf32>) -> tensor<2x5x4xf32>
  %10 = "graph.weight"() {key = "v"} : () -> tensor<8x8xf32>
  %11 = "graph.matmul"(%arg0, %10) : (tensor<1x5x8xf32>, tensor<8x8xf32>) -> tensor<1x5x8xf32>
  %12 = "graph.reshape"(%11) {shape = [1, 5, 2, 4]} : (tensor<1x5x8xf32>) -> tensor<1x5x2x4xf32>
  %13 = "graph.transpose"(%12) {perm = [0, 2, 1, 3]} : (tensor<1x5x2x4xf32>) -> tensor<1x2x5x4xf32>
  %14 = "graph.reshape"(%13) {shape = [2, 5, 4]} : (tensor<1x2x5x4xf32>) -> tensor<2x5x4xf32>
  %15 = "graph.transpose"(%9) {perm = [0, 2, 1]} : (tensor<2x5x4xf32>) -> tensor<2x4x5xf32>
  %16 = "graph.matmul"(%4, %15) : (tensor<2x5x4xf32>, tensor<2x4x5xf32>) -> tensor<2x5x5xf32>
  %17 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %18 = "graph.elementwise"(%16, %17) {fn = "mul"} : (tensor<2x5x5xf32>, tensor<f32>) -> tensor<2x5x5xf32>
  %19 = "graph.softmax"(%18) {axis = 2 : i64} : (tensor<2x5x5xf32>) -> tensor<2x5x5xf32>
  %20 = "graph.matmul"(%19, %14) : (tensor<2x5x5xf32>, tensor<2x5x4xf32>) -> tensor<2x5x4xf32>
  %21 = "graph.reshape"(%20) {shape = [1, 2, 5, 4]} : (tensor<2x5x4xf32>) -> tensor<1x2x5x4xf32>
  %22 = "graph.transpose"(%21) {perm = [0, 2, 1, 3]} : (tensor<1x2x5x4xf32>) -> tensor<1x5x2x4xf32>
  %23 = "graph.reshape"(%22) {shape = [1, 5, 8]} : (tensor<1x5x2x4xf32>) -> tensor<1x5x8xf32>
  return %23 : tensor<1x5x8xf32>
}
