// Functions become arithmetic on scalars and vectors; what is one instruction stays, as do types and f64 functions without an expansion.
// RUN: %mlc-opt %s --expand-math --verify-roundtrip | filecheck %s
// RUN: %mlc-opt %s --expand-math=ops=exp,tanh | filecheck %s --check-prefix=SOME
// RUN: %mlc-opt %s --pass-pipeline='builtin.module(expand-math{ops="log"})' | filecheck %s --check-prefix=LOG
// RUN: %mlc-opt %s --target=cpu:x86-64-v2 --expand-math | filecheck %s --check-prefix=OLD
// RUN: %mlc-opt %s --target=cuda:sm_90a --expand-math | filecheck %s --check-prefix=GPU
// RUN: not %mlc-opt %s --expand-math=ops=exp,floor 2>&1 | filecheck %s --check-prefix=BAD

// BAD: cannot expand math.floor
// BAD-NOT: Traceback

// CHECK-LABEL: func.func @exp
// CHECK-NOT: math.exp
// CHECK: math.fma {{.*}} : vector<16xf32>
// CHECK: arith.shli {{.*}} : vector<16xi32>
// CHECK-NOT: math.exp
// CHECK: return {{.*}} : vector<16xf32>
// GPU-LABEL: func.func @exp
// GPU: math.exp2 {{.*}} fastmath<afn> : vector<16xf32>
// OLD-LABEL: func.func @exp
// OLD-NOT: math.
// OLD: return
func.func @exp(%x: vector<16xf32>) -> vector<16xf32> {
  %0 = math.exp %x : vector<16xf32>
  return %0 : vector<16xf32>
}

// CHECK-LABEL: func.func @all
// CHECK-NOT: math.{{(exp|exp2|expm1|tanh|sinh|cosh|log|log2|log10|log1p|asinh|acosh|atanh|erf|erfc) }}
// CHECK-NOT: math.{{(sin|cos|tan|sincos|asin|acos|atan|atan2|powf|fpowi|cbrt|rsqrt) }}
// CHECK: return
// SOME-LABEL: func.func @all
// SOME-NOT: math.exp{{ }}
// SOME: math.exp2
// SOME-NOT: math.tanh
// SOME: math.sinh
// SOME: math.log{{ }}
// SOME: math.erf
// LOG-LABEL: func.func @all
// LOG: math.exp{{ }}
// LOG: math.tanh
// LOG-NOT: math.log{{ }}
// LOG: math.log2
func.func @all(%x: f32, %y: f32, %n: i32) -> f32 {
  %0 = math.exp %x : f32
  %1 = math.exp2 %0 : f32
  %2 = math.expm1 %1 : f32
  %3 = math.tanh %2 : f32
  %4 = math.sinh %3 : f32
  %5 = math.cosh %4 : f32
  %6 = math.log %5 : f32
  %7 = math.log2 %6 : f32
  %8 = math.log10 %7 : f32
  %9 = math.log1p %8 : f32
  %10 = math.asinh %9 : f32
  %11 = math.acosh %10 : f32
  %12 = math.atanh %11 : f32
  %13 = math.erf %12 : f32
  %14 = math.erfc %13 : f32
  %15 = math.sin %14 : f32
  %16 = math.cos %15 : f32
  %17 = math.tan %16 : f32
  %18 = math.asin %17 : f32
  %19 = math.acos %18 : f32
  %20 = math.atan %19 : f32
  %21 = math.atan2 %20, %y : f32
  %22 = math.powf %21, %y : f32
  %23 = math.fpowi %22, %n : f32, i32
  %24 = math.cbrt %23 : f32
  %25 = math.rsqrt %24 : f32
  %26, %27 = math.sincos %25 : f32
  %28 = arith.addf %26, %27 : f32
  return %28 : f32
}

// Rare arguments of sin take a branch, if any lane needs it.
// CHECK-LABEL: func.func @sin
// CHECK: %[[ANY:.*]] = vector.reduction <or>, {{.*}} : vector<8xi1> into i1
// CHECK: scf.if %[[ANY]] -> (vector<8xf32>, vector<8xi32>)
func.func @sin(%x: vector<8xf32>) -> vector<8xf32> {
  %0 = math.sin %x : vector<8xf32>
  return %0 : vector<8xf32>
}

// CHECK-LABEL: func.func @stay
// CHECK-NEXT: math.fma
// CHECK-NEXT: math.sqrt
// CHECK-NEXT: math.absf
// CHECK-NEXT: math.floor
// CHECK-NEXT: math.ceil
// CHECK-NEXT: math.round
// CHECK-NEXT: math.roundeven
// CHECK-NEXT: math.trunc
// CHECK-NEXT: math.copysign
// CHECK-NEXT: math.exp
// CHECK-NEXT: math.isnan
func.func @stay(%x: f32, %h: f16) -> i1 {
  %0 = math.fma %x, %x, %x : f32
  %1 = math.sqrt %0 : f32
  %2 = math.absf %1 : f32
  %3 = math.floor %2 : f32
  %4 = math.ceil %3 : f32
  %5 = math.round %4 : f32
  %6 = math.roundeven %5 : f32
  %7 = math.trunc %6 : f32
  %8 = math.copysign %7, %x : f32
  %9 = math.exp %h : f16
  %10 = math.isnan %8 : f32
  return %10 : i1
}

// CHECK-LABEL: func.func @double
// CHECK-NOT: math.{{(exp|log|tanh|erf|powf) }}
// CHECK: return
// OLD-LABEL: func.func @double
// OLD-NEXT: math.exp
// OLD-NEXT: math.log
// OLD-NEXT: math.tanh
func.func @double(%x: f64) -> f64 {
  %0 = math.exp %x : f64
  %1 = math.log %0 : f64
  %2 = math.tanh %1 : f64
  %3 = math.erf %2 : f64
  %4 = math.powf %3, %x : f64
  return %4 : f64
}

// What is added to 1 need not be exact near 0: no polynomial for small arguments, no choice.
// CHECK-LABEL: func.func @gelu
// CHECK: arith.constant dense<-1.62790{{.*}}> : vector<4xf32>
// CHECK-NOT: arith.select
// CHECK: math.copysign
// CHECK: return
// GPU-LABEL: func.func @gelu
// GPU: math.exp2 {{.*}} fastmath<afn> : vector<4xf32>
// GPU: return
func.func @gelu(%x: vector<4xf32>) -> vector<4xf32> {
  %one = arith.constant dense<1.0> : vector<4xf32>
  %0 = math.erf %x : vector<4xf32>
  %1 = arith.addf %0, %one : vector<4xf32>
  return %1 : vector<4xf32>
}

// GPU-LABEL: func.func @tanh
// GPU: arith.divf {{.*}} fastmath<arcp> : f32
// GPU: return
func.func @tanh(%x: f32) -> f32 {
  %0 = math.tanh %x : f32
  return %0 : f32
}
