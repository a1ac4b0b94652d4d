//! Hot loops, compiled for more than one kind of processor.

macro_rules_attribute::attribute_alias! {
    // Copies for AVX-512 and AVX2 beside the portable one; which of them runs is found out once.
    #[apply(vectorised!)] = #[multiversion::multiversion(
        targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2")
    )];
    // The same, where products are added in one instruction: such loops have other last bits there.
    #[apply(fused!)] = #[multiversion::multiversion(
        targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma")
    )];
}

pub(crate) use macro_rules_attribute::apply;
