//! Matrices as the product sees them: borrowed, with a stride.

/// A read-only matrix `[rows, cols]`, stored by rows or (seen through [`MatRef::t`]) by columns.
#[derive(Clone, Copy)]
pub struct MatRef<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Elements from one stored row (or column, when `transposed`) to the next.
    pub(super) stride: usize,
    /// Stored by columns.
    pub(super) transposed: bool,
}

impl<'a> MatRef<'a> {
    /// The matrix `[rows, cols]` whose rows follow one another in `data`.
    ///
    /// # Panics
    /// When `data` is shorter than the matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// The matrix `[rows, cols]` whose row `i` begins at `data[i * stride]`.
    ///
    /// # Panics
    /// When rows overlap or `data` is shorter than the matrix.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        check(data.len(), rows, cols, stride);
        Self { data, rows, cols, stride, transposed: false }
    }

    /// The same numbers with rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }

    /// The part in columns `cols`.
    pub(super) fn columns(self, cols: std::ops::Range<usize>) -> Self {
        let start = cols.start * if self.transposed { self.stride } else { 1 };
        // A matrix without rows has no data to begin anywhere.
        let data = self.data.get(start..).unwrap_or_default();
        Self { data, cols: cols.len(), ..self }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// A mutable matrix `[rows, cols]` stored by rows.
pub struct MatMut<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) stride: usize,
}

impl<'a> MatMut<'a> {
    /// The matrix `[rows, cols]` whose rows follow one another in `data`.
    ///
    /// # Panics
    /// When `data` is shorter than the matrix.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// The matrix `[rows, cols]` whose row `i` begins at `data[i * stride]`.
    ///
    /// # Panics
    /// When rows overlap or `data` is shorter than the matrix.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        check(data.len(), rows, cols, stride);
        Self { data, rows, cols, stride }
    }
}

fn check(len: usize, rows: usize, cols: usize, stride: usize) {
    assert!(stride >= cols, "rows of {cols} elements overlap at stride {stride}");
    let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * stride + cols };
    assert!(len >= needed, "[{rows}, {cols}] at stride {stride} needs {needed} of {len} elements");
}

/// What is added to a product.
#[derive(Clone, Copy, Default)]
pub enum Add<'a> {
    /// Nothing: the result replaces what was there.
    #[default]
    Nothing,
    /// The result's old contents (weight gradients).
    Result,
    /// One row `[cols]`, to every row (a bias).
    Row(&'a [f32]),
    /// A matrix of the result's shape (a residual stream).
    Matrix(MatRef<'a>),
    /// One row, and a matrix.
    RowAndMatrix(&'a [f32], MatRef<'a>),
}
