// Python and C++ passes in one pipeline, nested and with options; every tool sees both.
// RUN: %mlc-opt %s --load-pass-plugin=%S/Inputs/passes.py --target=cpu:x86-64-v3 --dump-pass-pipeline --mlir-print-ir-before=cse --mlir-print-ir-after-change --mlir-timing --dump-dir=%t.dir --pass-pipeline='builtin.module(test-mark{text="a b" tiles=4,8 loud}, func.func(cse, test-rename{suffix=_x}), any(canonicalize{top-down=false max-iterations=3}), symbol-dce)' > %t.out 2> %t.err
// RUN: filecheck %s < %t.out
// RUN: filecheck %s --check-prefix=ERR < %t.err
// RUN: ls %t.dir | filecheck %s --check-prefix=DIR
// RUN: %mlc-opt %s --load-pass-plugin=%S/Inputs/passes.py -test-rename=suffix=_y --cse | filecheck %s --check-prefix=FLAGS
// RUN: %mlc-opt %s --emit-bytecode -o %t.bc
// RUN: %mlc-opt %t.bc --mlir-print-op-generic --mlir-print-debuginfo | filecheck %s --check-prefix=GENERIC

// CHECK: module attributes {test.mark = "a b [4, 8] 1.0 True cpu:x86-64-v3"}
// CHECK: func.func @f_x(
// CHECK-NEXT: arith.addi
// CHECK-NEXT: arith.muli
// CHECK-NEXT: return

// ERR: builtin.module(test-mark{text="a b" tiles=4,8 loud=true},func.func(cse),func.func(test-rename{suffix=_x}),any(canonicalize{top-down=false max-iterations=3}),symbol-dce)
// ERR: IR Dump After test-mark //
// ERR: IR Dump Before cse (func.func) //
// ERR: func.func @f(
// ERR: IR Dump After cse (func.func) //
// ERR: IR Dump After test-rename (func.func) //
// ERR: func.func @f_x(
// ERR-NOT: IR Dump
// ERR: Execution time report
// ERR: Total Execution Time
// ERR-DAG: {{[0-9.]+ \( *[0-9.]+%\)}} test-mark
// ERR-DAG: {{[0-9.]+ \( *[0-9.]+%\)}} cse
// ERR-DAG: {{[0-9.]+ \( *[0-9.]+%\)}} (verify)
// ERR: Total

// DIR: 00_test-mark.mlir
// DIR-NEXT: 01_cse.mlir
// DIR-NEXT: 02_test-rename.mlir
// DIR-NEXT: 03_canonicalize.mlir
// DIR-NEXT: 04_symbol-dce.mlir

// FLAGS: func.func @f_y(
// FLAGS-NEXT: arith.addi
// FLAGS-NEXT: arith.muli

// GENERIC: "func.func"() <{
// GENERIC: loc("{{.*}}pipeline.mlir":{{[0-9]+}}:
func.func @f(%a: i64) -> i64 {
  %0 = arith.addi %a, %a : i64
  %1 = arith.addi %a, %a : i64
  %2 = arith.muli %0, %1 : i64
  return %2 : i64
}
