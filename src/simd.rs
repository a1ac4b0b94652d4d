//! Hot loops, compiled for more than one kind of processor.

macro_rules_attribute::attribute_alias! {
    // Copies for AVX-512 and AVX2 besides the portable one; the choice is made once.
    #[apply(vectorised!)] = #[multiversion::multiversion(
        targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2")
    )];
    // The same for loops that add products in one instruction, if there is one: the last bits differ then.
    #[apply(fused!)] = #[multiversion::multiversion(
        targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma")
    )];
}

pub(crate) use macro_rules_attribute::apply;
