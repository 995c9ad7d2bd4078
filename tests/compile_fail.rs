//! What would be a data race or a dangling slot does not compile. Each file in `compile_fail/` is one such program, and
//! the compiler's words for it.
//!
//! The words change from one compiler to the next; after a change of the toolchain look at the new ones and write them
//! down with `TRYBUILD=overwrite cargo test --test compile_fail`.

#[test]
fn races_and_dangling_slots_do_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/*.rs");
}
