//! Finite sets of prompts: the inputs of a statement about *all* inputs.

/// A union of products of allowed tokens, one set a position; or a list of prompts.
///
/// Prompts are numbered: product after product, and inside one as digits are, the last position fastest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    products: Vec<Vec<Vec<u16>>>,
    /// Number of the first prompt of every product, and the number of all.
    starts: Vec<usize>,
}

/// Errors of sets of tokens that are no domain.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DomainError {
    /// No prompt at all, or a product with no position.
    #[error("product {product} has no position or a position without tokens; every position needs at least one token")]
    Empty {
        /// Number of the product, from 0.
        product: usize,
    },
    /// A token is listed twice at one position.
    #[error("product {product} lists token {token} twice at position {position}")]
    Twice {
        /// Number of the product.
        product: usize,
        /// Number of the position.
        position: usize,
        /// The token.
        token: u16,
    },
    /// Two products share prompts.
    #[error("products {first} and {second} share prompts; they must be disjoint, so that every prompt counts once")]
    Overlap {
        /// One product.
        first: usize,
        /// The other.
        second: usize,
    },
    /// More prompts than can be numbered.
    #[error("the products have more prompts than can be numbered")]
    TooMany,
}

impl Domain {
    /// `products[p][position]` are the allowed tokens; a product of `n` positions is prompts of length `n`.
    ///
    /// # Errors
    /// When a set is empty, a token is listed twice, or two products overlap.
    pub fn new(products: Vec<Vec<Vec<u16>>>) -> Result<Self, DomainError> {
        for (product, positions) in products.iter().enumerate() {
            if positions.is_empty() || positions.iter().any(Vec::is_empty) {
                return Err(DomainError::Empty { product });
            }
            for (position, tokens) in positions.iter().enumerate() {
                if let Some(i) = (1..tokens.len()).find(|&i| tokens[..i].contains(&tokens[i])) {
                    return Err(DomainError::Twice { product, position, token: tokens[i] });
                }
            }
        }
        // Products are disjoint if they differ in length or have a position with no token in common.
        let apart = |a: &[Vec<u16>], b: &[Vec<u16>]| {
            a.len() != b.len() || a.iter().zip(b).any(|(a, b)| a.iter().all(|t| !b.contains(t)))
        };
        for second in 0..products.len() {
            if let Some(first) = (0..second).find(|&first| !apart(&products[first], &products[second])) {
                return Err(DomainError::Overlap { first, second });
            }
        }
        Self::number(products)
    }

    /// All sequences of the lengths `lengths` over `tokens`.
    ///
    /// # Errors
    /// As [`Domain::new`].
    pub fn all(tokens: &[u16], lengths: impl IntoIterator<Item = usize>) -> Result<Self, DomainError> {
        Self::new(lengths.into_iter().map(|n| vec![tokens.to_vec(); n]).collect())
    }

    /// These prompts, in their order; one that is listed twice counts twice.
    ///
    /// # Errors
    /// When a prompt has no token.
    pub fn listed(prompts: &[Vec<u16>]) -> Result<Self, DomainError> {
        if let Some(product) = prompts.iter().position(Vec::is_empty) {
            return Err(DomainError::Empty { product });
        }
        Self::number(prompts.iter().map(|p| p.iter().map(|&t| vec![t]).collect()).collect())
    }

    fn number(products: Vec<Vec<Vec<u16>>>) -> Result<Self, DomainError> {
        if products.is_empty() {
            return Err(DomainError::Empty { product: 0 });
        }
        let mut starts = vec![0_usize];
        for positions in &products {
            let size = positions.iter().try_fold(1_usize, |n, tokens| n.checked_mul(tokens.len()));
            let end = size.and_then(|size| starts.last().and_then(|start| start.checked_add(size)));
            starts.push(end.ok_or(DomainError::TooMany)?);
        }
        Ok(Self { products, starts })
    }

    /// The sets of tokens.
    pub fn products(&self) -> &[Vec<Vec<u16>>] {
        &self.products
    }

    /// Number of prompts.
    pub fn len(&self) -> usize {
        *self.starts.last().expect("a start and an end")
    }

    /// Never: a domain has a prompt.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Prompt of a number.
    ///
    /// # Panics
    /// When `number` is not below [`Domain::len`].
    #[track_caller]
    pub fn get(&self, number: usize) -> Vec<u16> {
        assert!(number < self.len(), "prompt {number} of {}", self.len());
        let at = self.starts.partition_point(|&start| start <= number) - 1;
        let mut rest = number - self.starts[at];
        let mut prompt: Vec<u16> = self.products[at]
            .iter()
            .rev()
            .map(|tokens| {
                let token = tokens[rest % tokens.len()];
                rest /= tokens.len();
                token
            })
            .collect();
        prompt.reverse();
        prompt
    }

    /// Every prompt, by number.
    pub fn iter(&self) -> impl Iterator<Item = Vec<u16>> + '_ {
        (0..self.len()).map(|number| self.get(number))
    }

    /// True if `prompt` is in the domain.
    pub fn contains(&self, prompt: &[u16]) -> bool {
        let inside = |positions: &&Vec<Vec<u16>>| {
            positions.len() == prompt.len() && positions.iter().zip(prompt).all(|(tokens, t)| tokens.contains(t))
        };
        self.products.iter().any(|positions| inside(&positions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_numbered_as_digits_are() {
        let domain = Domain::new(vec![vec![vec![9], vec![0, 1], vec![5, 4, 3]], vec![vec![7, 8]]]).unwrap();
        let prompts: Vec<Vec<u16>> = domain.iter().collect();
        assert_eq!(domain.len(), 8);
        assert_eq!(prompts[..2], [vec![9, 0, 5], vec![9, 0, 4]]);
        assert_eq!(prompts[3], [9, 1, 5]);
        assert_eq!(prompts[6..], [vec![7], vec![8]]);
        assert!(prompts.iter().all(|p| domain.contains(p)));
        assert!(!domain.contains(&[9, 0]) && !domain.contains(&[9, 2, 5]) && !domain.contains(&[9]));
        assert_eq!(Domain::all(&[0, 1, 2], 1..=3).unwrap().len(), 3 + 9 + 27);
        let listed = Domain::listed(&[vec![4, 5], vec![4, 5], vec![1]]).unwrap();
        assert_eq!(listed.iter().collect::<Vec<_>>(), [vec![4, 5], vec![4, 5], vec![1]]);
    }

    #[test]
    fn what_is_no_domain_is_named() {
        let overlap = Domain::new(vec![vec![vec![0, 1], vec![2]], vec![vec![3], vec![2]], vec![vec![1], vec![2, 3]]]);
        assert_eq!(overlap, Err(DomainError::Overlap { first: 0, second: 2 }));
        assert_eq!(
            Domain::new(vec![vec![vec![1, 2, 1]]]),
            Err(DomainError::Twice { product: 0, position: 0, token: 1 })
        );
        assert_eq!(Domain::new(vec![vec![vec![1]], vec![vec![2], vec![]]]), Err(DomainError::Empty { product: 1 }));
        assert_eq!(Domain::new(vec![]), Err(DomainError::Empty { product: 0 }));
        assert_eq!(Domain::new(vec![vec![(0..u16::MAX).collect(); 5]]), Err(DomainError::TooMany));
    }
}
