//! Models whose weights lie on a GPU.

use openwork_cuda::{Gpu, GpuError, Parameter, Parameters, Shape};
use openwork_ops::{Cuda, CudaGradient};

use crate::{Config, Model, NormKind, Params, Ties};

/// A model on a GPU: its parameters, and the tree of handles to them that passes run on.
pub struct GpuModel {
    /// The tree.
    pub model: Model<Parameter>,
    /// The parameters that the handles point to.
    pub parameters: Parameters,
}

impl Model<Parameter> {
    /// The handles to `parameters` as they are now, which lie in the order of [`Params::values`].
    pub fn of(config: Config, parameters: &Parameters) -> Self {
        let mut numbers = 0..;
        let params = Params::build(&config, |_, _| parameters.get(numbers.next().expect("endless")));
        Self { config, params, ties: Ties::ByIndex }
    }
}

impl Model {
    /// A copy of this model on a GPU, with sparse products where the CPU has them.
    ///
    /// # Errors
    /// When there are no kernels for its sizes or its norm, or the device has too little memory.
    pub fn upload(&self, gpu: &Gpu) -> Result<GpuModel, GpuError> {
        let config = self.config.clone();
        supports_norm(config.norm)?;
        Cuda::supports(config.d_head, config.d_mlp.max(config.d_read()))?;
        let weights = self.params.values();
        let nonzeros: Vec<usize> = weights.iter().map(|w| w.nnz()).collect();
        let sparse: Vec<bool> = weights.iter().map(|w| w.csr().is_some()).collect();
        let shape = |((w, &nnz), &sparse): ((&&crate::Weight, &usize), &bool)| Shape {
            rows: w.dense().nrows(),
            cols: w.dense().ncols(),
            room: if sparse { nnz } else { 0 },
        };
        let shapes: Vec<Shape> = weights.iter().zip(&nonzeros).zip(&sparse).map(shape).collect();
        let mut parameters = Parameters::new(gpu, &shapes);
        for (i, weight) in weights.iter().enumerate() {
            parameters.set_weights(i, weight.dense().as_slice().expect("row-major"));
        }
        parameters.build_sparse(&nonzeros, &sparse);
        gpu.check()?;
        Ok(GpuModel { model: Model::of(config, &parameters), parameters })
    }
}

/// Models without norms are compiled ones, too small for a GPU to pay: there is no kernel for them.
fn supports_norm(norm: NormKind) -> Result<(), GpuError> {
    match norm {
        NormKind::Rms | NormKind::Layer => Ok(()),
        NormKind::None => Err(GpuError::Unsupported {
            what: "models without norms".into(),
            instead: "those with RMSNorm or LayerNorm run there, this one on the CPU".into(),
        }),
    }
}

impl GpuModel {
    /// Handles for gradients of every entry of the parameters. Gradients are added to the values there
    /// ([`Parameters::zero_gradients`]).
    pub fn gradients(&self) -> Params<CudaGradient> {
        let mut parameters = self.model.params.values().into_iter();
        Params::build(&self.model.config, |_, _| {
            let parameter = parameters.next().expect("same tree").clone();
            CudaGradient { parameter, at_nonzeros: false }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_without_norms_are_refused_in_words() {
        assert!(supports_norm(NormKind::Rms).is_ok() && supports_norm(NormKind::Layer).is_ok());
        let error = supports_norm(NormKind::None).unwrap_err().to_string();
        assert!(error.contains("no kernel for models without norms") && error.contains("on the CPU"), "{error}");
    }
}
