//! Where a pass gets its matrices from.

use core::convert::Infallible;

use super::Pass;
use crate::format::{DType, QUAD, Role};
use crate::kernels::Activations;
use crate::model::Model;
use crate::tensor::Matrix;

/// A matrix, its bias, and where the product goes, `[n, rows]`; a matrix that is not there has none.
pub(crate) type Product<'a, T> = (Option<T>, Option<&'a [f32]>, &'a mut [f32]);

/// The matrices of a model: in memory, or read when they are needed. Norms, biases and frequencies are
/// the model's own, always in memory.
pub(crate) trait Source {
    /// What stands for a matrix.
    type Tensor: Copy;
    /// Why a matrix could not be had.
    type Error;

    /// The tensor of this role, if the model has one.
    fn tensor(&self, layer: usize, role: Role) -> Option<Self::Tensor>;

    /// Its type.
    fn dtype(tensor: &Self::Tensor) -> DType;

    /// One row as floats ([`Matrix::row`]).
    fn row(&mut self, tensor: &Self::Tensor, row: usize, out: &mut [f32]) -> Result<(), Self::Error>;

    /// Products of several matrices with one input: `out[n, rows] = input · matrixᵀ + bias`.
    fn product<const M: usize>(
        &mut self,
        pass: &Pass<'_>,
        products: [Product<'_, Self::Tensor>; M],
        input: &Activations<'_>,
    ) -> Result<(), Self::Error>;

    /// The product with one input, some neighbouring rows at a time, as many as `out` has places for (a
    /// multiple of four) or fewer: `each` gets the first row and what came out.
    fn by_slabs(
        &mut self,
        pass: &Pass<'_>,
        tensor: &Self::Tensor,
        input: &Activations<'_>,
        out: &mut [f32],
        each: &mut dyn FnMut(u32, &mut [f32]),
    ) -> Result<(), Self::Error>;

    /// Whether some of these take integers.
    fn any_quantized(tensors: &[Option<Self::Tensor>]) -> bool {
        DType::ANY_QUANTIZED && tensors.iter().flatten().any(|tensor| Self::dtype(tensor).is_quantized())
    }
}

/// A model that is in memory as a whole: nothing to wait for, nothing that could fail.
pub(crate) struct InMemory<'a>(pub(crate) &'a Model<'a>);

impl<'a> Source for InMemory<'a> {
    type Tensor = Matrix<'a>;
    type Error = Infallible;

    #[inline(always)]
    fn tensor(&self, layer: usize, role: Role) -> Option<Matrix<'a>> {
        self.0.tensor(layer, role)
    }

    #[inline(always)]
    fn dtype(tensor: &Matrix<'a>) -> DType {
        tensor.dtype()
    }

    #[inline(always)]
    fn row(&mut self, tensor: &Matrix<'a>, row: usize, out: &mut [f32]) -> Result<(), Infallible> {
        tensor.row(row, out);
        Ok(())
    }

    #[inline(always)]
    fn product<const M: usize>(
        &mut self,
        pass: &Pass<'_>,
        mut products: [Product<'_, Matrix<'a>>; M],
        input: &Activations<'_>,
    ) -> Result<(), Infallible> {
        pass.product(&mut products, input);
        Ok(())
    }

    fn by_slabs(
        &mut self,
        pass: &Pass<'_>,
        tensor: &Matrix<'a>,
        input: &Activations<'_>,
        out: &mut [f32],
        each: &mut dyn FnMut(u32, &mut [f32]),
    ) -> Result<(), Infallible> {
        let at_once = out.len() / QUAD * QUAD;
        let mut first = 0;
        while first < tensor.rows {
            let Some(slab) = tensor.slab(first..first + at_once) else { break };
            let Some(out) = out.get_mut(..slab.rows).filter(|out| !out.is_empty()) else { break };
            pass.product(&mut [(Some(slab), None, &mut *out)], input);
            each(first as u32, out);
            first += slab.rows;
        }
        Ok(())
    }
}
