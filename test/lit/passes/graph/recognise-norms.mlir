// Layer norm, RMS norm and softmax written out in reductions.
// RUN: %mlc-opt %s --split-input-file --mlc-cse --simplify --recognise --simplify | filecheck %s

// layer norm, div sqrt
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.layer_norm"(%arg0) {axis = 1 : i64, eps = 9.99
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = "graph.reduce"(%arg0) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "sub"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %2 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "pow"} : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %4 = "graph.reduce"(%3) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %5 = "graph.constant"() {bytes = "ACC52737"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%4, %5) {fn = "add"} : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %7 = "graph.elementwise"(%6) {fn = "sqrt"} : (tensor<4x1xf32>) -> tensor<4x1xf32>
  %8 = "graph.elementwise"(%1, %7) {fn = "div"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  return %8 : tensor<4x8xf32>
}

// -----

// layer norm, reciprocal
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.layer_norm"(%arg0) {axis = 1 : i64, eps = 9.99
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = "graph.reduce"(%arg0) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "sub"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %2 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "pow"} : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %4 = "graph.reduce"(%3) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %5 = "graph.constant"() {bytes = "ACC52737"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%4, %5) {fn = "add"} : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %7 = "graph.elementwise"(%6) {fn = "sqrt"} : (tensor<4x1xf32>) -> tensor<4x1xf32>
  %8 = "graph.elementwise"(%7) {fn = "reciprocal"} : (tensor<4x1xf32>) -> tensor<4x1xf32>
  %9 = "graph.elementwise"(%1, %8) {fn = "mul"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  return %9 : tensor<4x8xf32>
}

// -----

// layer norm, div one
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.layer_norm"(%arg0) {axis = 1 : i64, eps = 9.99
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = "graph.reduce"(%arg0) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "sub"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %2 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "pow"} : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %4 = "graph.reduce"(%3) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %5 = "graph.constant"() {bytes = "ACC52737"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%4, %5) {fn = "add"} : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %7 = "graph.elementwise"(%6) {fn = "sqrt"} : (tensor<4x1xf32>) -> tensor<4x1xf32>
  %8 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %9 = "graph.elementwise"(%8, %7) {fn = "div"} : (tensor<f32>, tensor<4x1xf32>) -> tensor<4x1xf32>
  %10 = "graph.elementwise"(%9, %1) {fn = "mul"} : (tensor<4x1xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %10 : tensor<4x8xf32>
}

// -----

// layer norm, rsqrt
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.layer_norm"(%arg0) {axis = 1 : i64, eps = 9.99
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = "graph.reduce"(%arg0) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "sub"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %2 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "pow"} : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %4 = "graph.reduce"(%3) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %5 = "graph.constant"() {bytes = "ACC52737"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%4, %5) {fn = "add"} : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %7 = "graph.elementwise"(%6) {fn = "rsqrt"} : (tensor<4x1xf32>) -> tensor<4x1xf32>
  %8 = "graph.elementwise"(%7, %1) {fn = "mul"} : (tensor<4x1xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %8 : tensor<4x8xf32>
}

// -----

// layer norm, pow
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.layer_norm"(%arg0) {axis = 1 : i64, eps = 9.99
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = "graph.reduce"(%arg0) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "sub"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %2 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "pow"} : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %4 = "graph.reduce"(%3) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %5 = "graph.constant"() {bytes = "ACC52737"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%4, %5) {fn = "add"} : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %7 = "graph.constant"() {bytes = "000000BF"} : () -> tensor<f32>
  %8 = "graph.elementwise"(%6, %7) {fn = "pow"} : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %9 = "graph.elementwise"(%1, %8) {fn = "mul"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  return %9 : tensor<4x8xf32>
}

// -----

// layer norm, pow half
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.layer_norm"(%arg0) {axis = 1 : i64, eps = 9.99
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = "graph.reduce"(%arg0) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "sub"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %2 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "pow"} : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  %4 = "graph.reduce"(%3) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %5 = "graph.constant"() {bytes = "ACC52737"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%4, %5) {fn = "add"} : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %7 = "graph.constant"() {bytes = "0000003F"} : () -> tensor<f32>
  %8 = "graph.elementwise"(%6, %7) {fn = "pow"} : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %9 = "graph.elementwise"(%1, %8) {fn = "div"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  return %9 : tensor<4x8xf32>
}

// -----

// RMS norm as HF's llama has it
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.rms_norm"(%arg0) {axis = 2
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<1x4x8xf32>) -> tensor<1x4x8xf32> {
  %0 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "pow"} : (tensor<1x4x8xf32>, tensor<f32>) -> tensor<1x4x8xf32>
  %2 = "graph.reduce"(%1) {axes = [2], keepdims = true, kind = "mean"} : (tensor<1x4x8xf32>) -> tensor<1x4x1xf32>
  %3 = "graph.constant"() {bytes = "BD378635"} : () -> tensor<f32>
  %4 = "graph.elementwise"(%2, %3) {fn = "add"} : (tensor<1x4x1xf32>, tensor<f32>) -> tensor<1x4x1xf32>
  %5 = "graph.elementwise"(%4) {fn = "sqrt"} : (tensor<1x4x1xf32>) -> tensor<1x4x1xf32>
  %6 = "graph.elementwise"(%5) {fn = "reciprocal"} : (tensor<1x4x1xf32>) -> tensor<1x4x1xf32>
  %7 = "graph.elementwise"(%arg0, %6) {fn = "mul"} : (tensor<1x4x8xf32>, tensor<1x4x1xf32>) -> tensor<1x4x8xf32>
  return %7 : tensor<1x4x8xf32>
}

// -----

// casts to f32 around
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.rms_norm"(%arg0) {{.*}} : (tensor<4x8xf16>) -> tensor<4x8xf16>
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<4x8xf16>) -> tensor<4x8xf16> {
  %0 = "graph.cast"(%arg0) {to = f32} : (tensor<4x8xf16>) -> tensor<4x8xf32>
  %1 = "graph.elementwise"(%0, %0) {fn = "mul"} : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %2 = "graph.reduce"(%1) {axes = [1], keepdims = true, kind = "mean"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %3 = "graph.constant"() {bytes = "BD378635"} : () -> tensor<f32>
  %4 = "graph.elementwise"(%2, %3) {fn = "add"} : (tensor<4x1xf32>, tensor<f32>) -> tensor<4x1xf32>
  %5 = "graph.elementwise"(%4) {fn = "rsqrt"} : (tensor<4x1xf32>) -> tensor<4x1xf32>
  %6 = "graph.elementwise"(%0, %5) {fn = "mul"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %7 = "graph.cast"(%6) {to = f16} : (tensor<4x8xf32>) -> tensor<4x8xf16>
  return %7 : tensor<4x8xf16>
}

// -----

// over the channels of an image
// CHECK-LABEL: func.func @main
// CHECK-NEXT: graph.transpose"(%arg0) {perm = [0, 2, 3, 1]}
// CHECK-NEXT: graph.layer_norm"({{.*}}) {axis = 3
// CHECK-NEXT: graph.transpose"({{.*}}) {perm = [0, 3, 1, 2]}

func.func @main(%arg0: tensor<1x6x3x4xf32>) -> tensor<1x6x3x4xf32> {
  %0 = "graph.reduce"(%arg0) {axes = [1], keepdims = true, kind = "mean"} : (tensor<1x6x3x4xf32>) -> tensor<1x1x3x4xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "sub"} : (tensor<1x6x3x4xf32>, tensor<1x1x3x4xf32>) -> tensor<1x6x3x4xf32>
  %2 = "graph.constant"() {bytes = "00000040"} : () -> tensor<f32>
  %3 = "graph.elementwise"(%1, %2) {fn = "pow"} : (tensor<1x6x3x4xf32>, tensor<f32>) -> tensor<1x6x3x4xf32>
  %4 = "graph.reduce"(%3) {axes = [1], keepdims = true, kind = "mean"} : (tensor<1x6x3x4xf32>) -> tensor<1x1x3x4xf32>
  %5 = "graph.constant"() {bytes = "BD378635"} : () -> tensor<f32>
  %6 = "graph.elementwise"(%4, %5) {fn = "add"} : (tensor<1x1x3x4xf32>, tensor<f32>) -> tensor<1x1x3x4xf32>
  %7 = "graph.elementwise"(%6) {fn = "sqrt"} : (tensor<1x1x3x4xf32>) -> tensor<1x1x3x4xf32>
  %8 = "graph.elementwise"(%1, %7) {fn = "div"} : (tensor<1x6x3x4xf32>, tensor<1x1x3x4xf32>) -> tensor<1x6x3x4xf32>
  return %8 : tensor<1x6x3x4xf32>
}

// -----

// softmax
// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.softmax"(%arg0) {axis = 1
// CHECK-NEXT: return %[[Y]]

func.func @main(%arg0: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = "graph.reduce"(%arg0) {axes = [1], keepdims = true, kind = "max"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %1 = "graph.elementwise"(%arg0, %0) {fn = "sub"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  %2 = "graph.elementwise"(%1) {fn = "exp"} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %3 = "graph.reduce"(%2) {axes = [1], keepdims = true, kind = "sum"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %4 = "graph.elementwise"(%2, %3) {fn = "div"} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xf32>
  return %4 : tensor<4x8xf32>
}
