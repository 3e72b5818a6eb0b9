// narrow-factors: the f32 probabilities of attention are rounded before they meet f16 values in a matrix unit; on CPUs they stay.
// RUN: %mlc-opt %s --target=cuda:sm_90a --pass-pipeline='builtin.module(lower-graph-to-tile,narrow-factors)' | filecheck %s
// RUN: %mlc-opt %s --target=cpu:x86-64-v3 --pass-pipeline='builtin.module(lower-graph-to-tile,narrow-factors)' | filecheck %s --check-prefix=CPU

// CHECK: ins(%{{.*}}, %{{.*}} : tensor<1x2x1x32x32xf16>, tensor<1x2x32x64xf16>)
// CPU: ins(%{{.*}}, %{{.*}} : tensor<1x2x1x32x32xf32>, tensor<1x2x32x64xf16>)
func.func @main(%q: tensor<1x2x32x64xf16>, %k: tensor<1x2x32x64xf16>, %v: tensor<1x2x32x64xf16>) -> tensor<1x2x32x64xf16> {
  %0 = "graph.attention"(%q, %k, %v) {scale = 0.125} : (tensor<1x2x32x64xf16>, tensor<1x2x32x64xf16>, tensor<1x2x32x64xf16>) -> tensor<1x2x32x64xf16>
  return %0 : tensor<1x2x32x64xf16>
}
