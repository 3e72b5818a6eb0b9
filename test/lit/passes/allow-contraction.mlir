// allow-contraction: products, sums and differences may become multiply-adds; what says otherwise, or is no such op, stays as it is.
// RUN: %mlc-opt %s --allow-contraction | filecheck %s

// CHECK-LABEL: func.func @scalars(
func.func @scalars(%x: f32, %y: f32, %n: i32) -> f32 {
  // CHECK: arith.mulf %{{.*}}, %{{.*}} fastmath<contract> : f32
  %p = arith.mulf %x, %y : f32
  // CHECK: arith.addf %{{.*}}, %{{.*}} fastmath<contract> : f32
  %s = arith.addf %p, %y : f32
  // CHECK: arith.subf %{{.*}}, %{{.*}} fastmath<nnan> : f32
  %d = arith.subf %s, %x fastmath<nnan> : f32
  // CHECK: arith.divf %{{.*}}, %{{.*}} : f32
  %q = arith.divf %d, %y : f32
  // CHECK: arith.muli %{{.*}}, %{{.*}} : i32
  %m = arith.muli %n, %n : i32
  return %q : f32
}
