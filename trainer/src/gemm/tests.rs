use super::*;
use crate::rng::Rng;

const LEVELS: [Level; 4] = [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Bf16];

/// A matrix with gaps between its rows, and which of its sides is stored.
struct Stored {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    stride: usize,
    transposed: bool,
}

impl Stored {
    fn random(rng: &mut Rng, rows: usize, cols: usize) -> Self {
        let transposed = rng.below(2) == 1;
        let (long, short) = if transposed { (cols, rows) } else { (rows, cols) };
        let stride = short + rng.below(5);
        let data = (0..long * stride).map(|_| rng.below(2001) as f32 / 1000.0 - 1.0).collect();
        Self { data, rows, cols, stride, transposed }
    }

    fn view(&self) -> MatRef<'_> {
        if self.transposed {
            MatRef::strided(&self.data, self.cols, self.rows, self.stride).t()
        } else {
            MatRef::strided(&self.data, self.rows, self.cols, self.stride)
        }
    }

    /// The element that the level multiplies: at bf16 rounded, by an implementation not ours.
    fn at(&self, level: Level, i: usize, j: usize) -> f64 {
        let (i, j) = if self.transposed { (j, i) } else { (i, j) };
        let x = self.data[i * self.stride + j];
        f64::from(if level == Level::Avx512Bf16 { half::bf16::from_f32(x).to_f32() } else { x })
    }
}

/// Checks one product with random storage, and that nothing outside C is written.
fn check(rng: &mut Rng, level: Level, pool: &Pool, (m, n, k): (usize, usize, usize)) {
    let (a, b) = (Stored::random(rng, m, k), Stored::random(rng, k, n));
    let stride = n + rng.below(4);
    let before: Vec<f32> = (0..m * stride).map(|_| rng.below(100) as f32 / 50.0).collect();
    let row: Vec<f32> = (0..n).map(|j| j as f32 / 16.0).collect();
    let matrix: Vec<f32> = (0..m * n).map(|i| (i % 17) as f32 / 8.0).collect();
    let kind = rng.below(5);
    let add = match kind {
        0 => Add::Nothing,
        1 => Add::Result,
        2 => Add::Row(&row),
        3 => Add::Matrix(MatRef::new(&matrix, m, n)),
        _ => Add::RowAndMatrix(&row, MatRef::new(&matrix, m, n)),
    };
    let mut c = before.clone();
    let view = MatMut::strided(&mut c, m, n, stride);
    matmul_at(level, pool, view, a.view(), b.view(), add);
    for i in 0..m {
        for j in 0..stride {
            let (got, old) = (f64::from(c[i * stride + j]), f64::from(before[i * stride + j]));
            if j >= n {
                assert_eq!(got, old, "wrote between the rows");
                continue;
            }
            let product: f64 = (0..k).map(|x| a.at(level, i, x) * b.at(level, x, j)).sum();
            let added = match kind {
                0 => 0.0,
                1 => old,
                2 => f64::from(row[j]),
                3 => f64::from(matrix[i * n + j]),
                _ => f64::from(row[j]) + f64::from(matrix[i * n + j]),
            };
            let want = product + added;
            let error = (got - want).abs();
            let bound = 1e-6 * ((k as f64).sqrt() + added.abs() + 1.0) * 4.0;
            assert!(error <= bound, "{level:?} {m}×{n}×{k} ({i}, {j}): {got}, not {want}");
        }
    }
}

#[test]
fn small_and_odd_sizes() {
    let mut rng = Rng::new(1);
    let pool = Pool::new(2);
    for level in LEVELS.into_iter().filter(|level| level.is_available()) {
        for _ in 0..400 {
            let size = (1 + rng.below(70), 1 + rng.below(70), 1 + rng.below(70));
            check(&mut rng, level, &pool, size);
        }
        for size in [(0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (15, 33, 17)] {
            check(&mut rng, level, &pool, size);
        }
    }
}

#[test]
fn several_blocks_slabs_and_threads() {
    let mut rng = Rng::new(2);
    let pool = Pool::new(3);
    for level in LEVELS.into_iter().filter(|level| level.is_available()) {
        for size in [(129, 300, 1000), (31, 1500, 401), (200, 65, 385), (3, 4099, 769)] {
            check(&mut rng, level, &pool, size);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let mut rng = Rng::new(3);
    let pools = [1, 2, 3, 7].map(Pool::new);
    for level in LEVELS.into_iter().filter(|level| level.is_available()) {
        for (m, n, k) in [(130, 257, 900), (768, 65, 128), (100, 100, 100), (17, 1025, 385)] {
            let (a, b) = (Stored::random(&mut rng, m, k), Stored::random(&mut rng, k, n));
            let results = pools.each_ref().map(|pool| {
                let mut c = vec![0.25; m * n];
                let view = MatMut::new(&mut c, m, n);
                matmul_at(level, pool, view, a.view(), b.view(), Add::Result);
                c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            assert!(results.iter().all(|r| *r == results[0]), "{level:?} {m}×{n}×{k}");
        }
    }
}

#[test]
fn nan_in_the_old_result_does_not_stay() {
    let pool = Pool::new(1);
    let mut c = vec![f32::NAN; 4];
    let a = [1.0, 2.0, 3.0, 4.0];
    matmul(&pool, MatMut::new(&mut c, 2, 2), MatRef::new(&a, 2, 2), MatRef::new(&a, 2, 2), Add::Nothing);
    assert_eq!(c, [7.0, 10.0, 15.0, 22.0]);
}

#[test]
fn a_packed_matrix_serves_parts_of_itself() {
    let mut rng = Rng::new(4);
    for level in LEVELS.into_iter().filter(|level| level.is_available()) {
        let mut packed = PackedB::new(level);
        for _ in 0..60 {
            let (k, n) = (1 + rng.below(800), 1 + rng.below(90));
            let b = Stored::random(&mut rng, k, n);
            packed.pack(b.view());
            let (m, k, n) = (1 + rng.below(40), 1 + rng.below(k), 1 + rng.below(n));
            let a = Stored::random(&mut rng, m, k);
            let mut c = vec![0.0; m * n];
            packed.multiply(MatMut::new(&mut c, m, n), a.view(), Add::Nothing);
            for (at, &got) in c.iter().enumerate() {
                let want: f64 = (0..k).map(|x| a.at(level, at / n, x) * b.at(level, x, at % n)).sum();
                let error = (f64::from(got) - want).abs();
                assert!(error <= 4e-6 * ((k as f64).sqrt() + 1.0), "{level:?} {m}×{n}×{k}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "columns of A, rows of B")]
fn shapes_must_fit() {
    let data = [0.0; 12];
    let mut c = [0.0; 4];
    let (a, b) = (MatRef::new(&data, 2, 3), MatRef::new(&data, 4, 2));
    matmul(&Pool::new(1), MatMut::new(&mut c, 2, 2), a, b, Add::Nothing);
}
