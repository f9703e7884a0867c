//! The one list of kernels, a constant for each: name, arguments, threads of a block. A test compares it with the PTX and
//! another with the kernels that the simulator was built from.

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

/// Declares a constant for every kernel, and the list of all. A constant is called what its kernel is.
macro_rules! kernels {
    ($($constant:ident = $file:literal, $name:literal, $args:literal, $threads:literal;)*) => {
        $(pub(crate) static $constant: Kernel =
            Kernel { file: $file, name: $name, args: $args, threads: $threads };)*

        /// All kernels.
        pub static KERNELS: &[&Kernel] = &[$(&$constant),*];
    };
}

kernels! {
    ABS_TOP_K_256 = "abs_top_k", "abs_top_k_256", "ppuuu", 1024;
    ABS_TOP_K_1024 = "abs_top_k", "abs_top_k_1024", "ppuuu", 1024;
    ABS_TOP_K_4096 = "abs_top_k", "abs_top_k_4096", "ppuuu", 1024;
    ABS_TOP_K_16384 = "abs_top_k", "abs_top_k_16384", "ppuuu", 1024;
    NORM_ABS_TOP_K_256 = "abs_top_k", "norm_abs_top_k_256", "ppppppuuuf", 1024;
    NORM_ABS_TOP_K_1024 = "abs_top_k", "norm_abs_top_k_1024", "ppppppuuuf", 1024;
    NORM_ABS_TOP_K_2048 = "abs_top_k", "norm_abs_top_k_2048", "ppppppuuuf", 1024;
    ABS_TOP_K_BACKWARD = "abs_top_k", "abs_top_k_backward", "ppu", 256;
    ATTENTION_INNER = "attention", "attention_inner", "pppuuu", 256;
    ATTENTION_SINK_GRADIENT = "attention", "attention_sink_gradient", "ppppuu", 256;
    ATTENTION_8 = "attention", "attention_8", "ppppppuu", 64;
    ATTENTION_16 = "attention", "attention_16", "ppppppuu", 64;
    ATTENTION_32 = "attention", "attention_32", "ppppppuu", 64;
    ATTENTION_64 = "attention", "attention_64", "ppppppuu", 64;
    ATTENTION_BACKWARD_QUERIES_8 = "attention", "attention_backward_queries_8", "pppppppuu", 64;
    ATTENTION_BACKWARD_QUERIES_16 = "attention", "attention_backward_queries_16", "pppppppuu", 64;
    ATTENTION_BACKWARD_QUERIES_32 = "attention", "attention_backward_queries_32", "pppppppuu", 64;
    ATTENTION_BACKWARD_QUERIES_64 = "attention", "attention_backward_queries_64", "pppppppuu", 64;
    ATTENTION_BACKWARD_KEYS_8 = "attention", "attention_backward_keys_8", "ppppppppuu", 64;
    ATTENTION_BACKWARD_KEYS_16 = "attention", "attention_backward_keys_16", "ppppppppuu", 64;
    ATTENTION_BACKWARD_KEYS_32 = "attention", "attention_backward_keys_32", "ppppppppuu", 64;
    ATTENTION_BACKWARD_KEYS_64 = "attention", "attention_backward_keys_64", "ppppppppuu", 64;
    GATHER_ROWS = "embed", "gather_rows", "pppuuuu", 256;
    SCATTER_ROWS = "embed", "scatter_rows", "ppppuuu", 256;
    CROSS_ENTROPY = "loss", "cross_entropy", "pppuuuf", 1024;
    MATMUL = "matmul", "matmul", "ppppuuu", 256;
    MATMUL_INPUT = "matmul", "matmul_input", "pppuuu", 256;
    MATMUL_WEIGHT = "matmul", "matmul_weight", "pppuuu", 256;
    SET_ROWS = "matmul", "set_rows", "ppu", 256;
    ADD_PARTIAL_SUMS = "matmul", "add_partial_sums", "ppuu", 256;
    NORM_FORWARD = "norm", "norm_forward", "ppppppuufu", 256;
    NORM_BACKWARD = "norm", "norm_backward", "ppppppuuu", 256;
    NORM_GAIN_GRADIENT = "norm", "norm_gain_gradient", "ppppppuu", 256;
    ADD_ROW_SUMS = "norm", "add_row_sums", "ppuu", 256;
    GELU = "pointwise", "gelu", "ppu", 256;
    RELU = "pointwise", "relu", "ppu", 256;
    MULTIPLY = "pointwise", "multiply", "ppu", 256;
    ADD = "pointwise", "add", "ppu", 256;
    TO_BF16 = "pointwise", "to_bf16", "ppu", 256;
    FROM_BF16 = "pointwise", "from_bf16", "ppu", 256;
    SDDMM_ROWS_F32 = "sddmm", "sddmm_rows_f32", "pppppuuu", 256;
    SDDMM_ROWS_BF16 = "sddmm", "sddmm_rows_bf16", "pppppuuu", 256;
    SDDMM_TILE_F32 = "sddmm", "sddmm_tile_f32", "ppppppuuuu", 512;
    SDDMM_TILE_BF16 = "sddmm", "sddmm_tile_bf16", "ppppppuuuu", 512;
    ADD_AT_NONZEROS = "sddmm", "add_at_nonzeros", "ppppuuuu", 256;
    GATHER_COLUMNS = "sites", "gather_columns", "pppuuu", 256;
    SCATTER_COLUMNS = "sites", "scatter_columns", "pppuuu", 256;
    ABLATE = "sites", "ablate", "ppppu", 256;
    ABLATE_BACKWARD = "sites", "ablate_backward", "ppppuu", 256;
    MARK_ACTIVE = "sites", "mark_active", "ppuu", 256;
    SPMM_ROWS_F32 = "spmm", "spmm_rows_f32", "pppppuu", 256;
    SPMM_ROWS_BF16 = "spmm", "spmm_rows_bf16", "pppppuu", 256;
    SPMM_TILE_F32 = "spmm", "spmm_tile_f32", "ppppppuuu", 512;
    SPMM_TILE_BF16 = "spmm", "spmm_tile_bf16", "ppppppuuu", 512;
    SPMM_NARROW_F32 = "spmm", "spmm_narrow_f32", "ppppppuuu", 512;
    SPMM_NARROW_BF16 = "spmm", "spmm_narrow_bf16", "ppppppuuu", 512;
    SQUARE_SUMS = "update", "square_sums", "pppp", 256;
    GRADIENT_SCALE = "update", "gradient_scale", "ppuff", 256;
    ADAM = "update", "adam", "ppppppppfffff", 256;
    UNIT_KEYS = "update", "unit_keys", "ppp", 256;
    COUNT_CANDIDATES = "update", "count_candidates", "pppppppp", 256;
    SELECT_THRESHOLD = "update", "select_threshold", "pppppppp", 1024;
    PROJECT = "update", "project", "pppppppppppfu", 256;
    MASK_GRADIENT = "update", "mask_gradient", "ppppp", 256;
    SUM_COUNTS = "update", "sum_counts", "ppp", 1024;
    FILL_ROWS = "update", "fill_rows", "pppp", 256;
    FILL_COLUMNS = "update", "fill_columns", "pppp", 256;
    ORDER_LINES = "update", "order_lines", "ppppp", 1024;
}

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
    fn a_constant_is_called_what_its_kernel_is() {
        let text = include_str!("kernel.rs");
        for kernel in KERNELS {
            let line = format!("    {} = \"{}\", \"{}\",", kernel.name.to_uppercase(), kernel.file, kernel.name);
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
    }

    #[test]
    fn the_ptx_is_for_a100_and_later_and_cuda_13_0() {
        for file in KERNELS.iter().map(|k| k.file).collect::<BTreeSet<_>>() {
            let ptx = ptx(file).unwrap();
            assert!(ptx.contains(".version 9.0\n") && ptx.contains(".target sm_80\n"), "{file}");
        }
    }
}
