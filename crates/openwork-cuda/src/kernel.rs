//! The one list of kernels: names, arguments, threads of a block. A test compares it with the PTX and another with what
//! the simulator was built from.

/// A kernel of `kernels/*.cu`.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The file, without its ending.
    pub file: &'static str,
    /// Name.
    pub name: &'static str,
    /// A letter for every argument: `p` a pointer, `u` a 32-bit integer, `f` a float.
    pub args: &'static str,
    /// Threads of a block.
    pub threads: u32,
}

const fn kernel(file: &'static str, name: &'static str, args: &'static str, threads: u32) -> Kernel {
    Kernel { file, name, args, threads }
}

/// All of them.
#[rustfmt::skip]
pub static KERNELS: &[Kernel] = &[
    kernel("abs_top_k", "abs_top_k_256", "ppuuu", 1024),
    kernel("abs_top_k", "abs_top_k_1024", "ppuuu", 1024),
    kernel("abs_top_k", "abs_top_k_4096", "ppuuu", 1024),
    kernel("abs_top_k", "abs_top_k_16384", "ppuuu", 1024),
    kernel("abs_top_k", "norm_abs_top_k_256", "ppppppuuuf", 1024),
    kernel("abs_top_k", "norm_abs_top_k_1024", "ppppppuuuf", 1024),
    kernel("abs_top_k", "norm_abs_top_k_2048", "ppppppuuuf", 1024),
    kernel("abs_top_k", "abs_top_k_backward", "ppu", 256),
    kernel("attention", "attention_inner", "pppuuu", 256),
    kernel("attention", "attention_sink_gradient", "ppppuu", 256),
    kernel("attention", "attention_8", "ppppppuu", 64),
    kernel("attention", "attention_16", "ppppppuu", 64),
    kernel("attention", "attention_32", "ppppppuu", 64),
    kernel("attention", "attention_64", "ppppppuu", 64),
    kernel("attention", "attention_backward_queries_8", "pppppppuu", 64),
    kernel("attention", "attention_backward_queries_16", "pppppppuu", 64),
    kernel("attention", "attention_backward_queries_32", "pppppppuu", 64),
    kernel("attention", "attention_backward_queries_64", "pppppppuu", 64),
    kernel("attention", "attention_backward_keys_8", "ppppppppuu", 64),
    kernel("attention", "attention_backward_keys_16", "ppppppppuu", 64),
    kernel("attention", "attention_backward_keys_32", "ppppppppuu", 64),
    kernel("attention", "attention_backward_keys_64", "ppppppppuu", 64),
    kernel("embed", "gather_rows", "pppuuuu", 256),
    kernel("embed", "scatter_rows", "ppppuuu", 256),
    kernel("loss", "cross_entropy", "pppuuuf", 1024),
    kernel("matmul", "matmul", "ppppuuu", 256),
    kernel("matmul", "matmul_input", "pppuuu", 256),
    kernel("matmul", "matmul_weight", "pppuuu", 256),
    kernel("matmul", "set_rows", "ppu", 256),
    kernel("matmul", "add_partial_sums", "ppuu", 256),
    kernel("norm", "norm_forward", "ppppppuufu", 256),
    kernel("norm", "norm_backward", "ppppppuuu", 256),
    kernel("norm", "norm_gain_gradient", "ppppppuu", 256),
    kernel("norm", "add_row_sums", "ppuu", 256),
    kernel("pointwise", "gelu", "ppu", 256),
    kernel("pointwise", "relu", "ppu", 256),
    kernel("pointwise", "multiply", "ppu", 256),
    kernel("pointwise", "add", "ppu", 256),
    kernel("pointwise", "to_bf16", "ppu", 256),
    kernel("pointwise", "from_bf16", "ppu", 256),
    kernel("sddmm", "sddmm_rows_f32", "pppppuuu", 256),
    kernel("sddmm", "sddmm_rows_bf16", "pppppuuu", 256),
    kernel("sddmm", "sddmm_tile_f32", "ppppppuuuu", 512),
    kernel("sddmm", "sddmm_tile_bf16", "ppppppuuuu", 512),
    kernel("sddmm", "add_at_nonzeros", "ppppuuuu", 256),
    kernel("sites", "gather_columns", "pppuuu", 256),
    kernel("sites", "scatter_columns", "pppuuu", 256),
    kernel("sites", "ablate", "ppppu", 256),
    kernel("sites", "ablate_backward", "ppppuu", 256),
    kernel("sites", "mark_active", "ppuu", 256),
    kernel("spmm", "spmm_rows_f32", "pppppuu", 256),
    kernel("spmm", "spmm_rows_bf16", "pppppuu", 256),
    kernel("spmm", "spmm_tile_f32", "ppppppuuu", 512),
    kernel("spmm", "spmm_tile_bf16", "ppppppuuu", 512),
    kernel("spmm", "spmm_narrow_f32", "ppppppuuu", 512),
    kernel("spmm", "spmm_narrow_bf16", "ppppppuuu", 512),
    kernel("update", "square_sums", "pppp", 256),
    kernel("update", "gradient_scale", "ppuff", 256),
    kernel("update", "adam", "ppppppppfffff", 256),
    kernel("update", "unit_keys", "ppp", 256),
    kernel("update", "count_candidates", "pppppppp", 256),
    kernel("update", "select_threshold", "pppppppp", 1024),
    kernel("update", "project", "pppppppppppfu", 256),
    kernel("update", "mask_gradient", "ppppp", 256),
    kernel("update", "sum_counts", "ppp", 1024),
    kernel("update", "fill_rows", "pppp", 256),
    kernel("update", "fill_columns", "pppp", 256),
    kernel("update", "order_lines", "ppppp", 1024),
];

/// The PTX of a file, compiled by `cargo xtask kernels`.
pub fn ptx(file: &str) -> Option<&'static str> {
    Some(match file {
        "abs_top_k" => include_str!("../ptx/abs_top_k.ptx"),
        "attention" => include_str!("../ptx/attention.ptx"),
        "embed" => include_str!("../ptx/embed.ptx"),
        "loss" => include_str!("../ptx/loss.ptx"),
        "matmul" => include_str!("../ptx/matmul.ptx"),
        "norm" => include_str!("../ptx/norm.ptx"),
        "pointwise" => include_str!("../ptx/pointwise.ptx"),
        "sddmm" => include_str!("../ptx/sddmm.ptx"),
        "sites" => include_str!("../ptx/sites.ptx"),
        "spmm" => include_str!("../ptx/spmm.ptx"),
        "update" => include_str!("../ptx/update.ptx"),
        _ => return None,
    })
}

/// The kernel of this name.
///
/// # Panics
/// When there is none: a programmer's error.
pub(crate) fn named(name: &str) -> &'static Kernel {
    KERNELS.iter().find(|kernel| kernel.name == name).unwrap_or_else(|| panic!("there is no kernel {name}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Name, letters of the arguments and threads of a block of every entry in a text of PTX.
    fn entries(ptx: &str) -> Vec<(String, String, u32)> {
        let entry = |text: &str| {
            let (name, rest) = text.split_once('(').expect("a list of parameters");
            let (parameters, rest) = rest.split_once(')').expect("its end");
            let letter = |line: &str| match line.split_whitespace().nth(1) {
                Some(".u64") => 'p',
                Some(".u32") => 'u',
                Some(".f32") => 'f',
                other => panic!("{name}: a parameter of type {other:?}"),
            };
            let args = parameters.split(',').map(|line| letter(line.trim())).collect();
            let (_, threads) = rest.split_once(".maxntid").expect("bounds of a launch");
            let threads = threads.split([',', '\n']).next().and_then(|n| n.trim().parse().ok()).expect("a number");
            (name.trim().to_owned(), args, threads)
        };
        ptx.split(".visible .entry").skip(1).map(entry).collect()
    }

    #[test]
    fn the_list_is_that_of_the_ptx() {
        let listed: BTreeSet<_> =
            KERNELS.iter().map(|k| (k.file.to_owned(), k.name.to_owned(), k.args.to_owned(), k.threads)).collect();
        let files: BTreeSet<&str> = KERNELS.iter().map(|k| k.file).collect();
        let compiled = files.iter().flat_map(|&file| {
            let ptx = ptx(file).unwrap();
            entries(ptx).into_iter().map(move |(name, args, threads)| (file.to_owned(), name, args, threads))
        });
        assert_eq!(listed, compiled.collect());
        assert_eq!(listed.len(), KERNELS.len());
    }

    #[test]
    fn the_ptx_is_for_a100_and_later_and_cuda_13_0() {
        for file in KERNELS.iter().map(|k| k.file).collect::<BTreeSet<_>>() {
            let ptx = ptx(file).unwrap();
            assert!(ptx.contains(".version 9.0\n") && ptx.contains(".target sm_80\n"), "{file}");
        }
    }
}
