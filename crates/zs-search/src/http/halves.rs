//! Batches that a server may refuse for the sake of one item.

use std::sync::Arc;

use super::HttpError;

/// Sends a batch. Where the server blames what is in it, its halves are sent, until the item at fault
/// is alone: so it fails alone. Any other failure is that of all items.
///
/// Returns one result an item, in order; `send` must do so, too.
pub(crate) fn in_halves<I, T>(
    items: &[I],
    send: &impl Fn(&[I]) -> Result<Vec<T>, HttpError>,
) -> Vec<Result<T, Arc<HttpError>>> {
    match send(items) {
        Ok(results) => results.into_iter().map(Ok).collect(),
        Err(error) if items.len() > 1 && error.blames_request() => {
            let (first, second) = items.split_at(items.len() / 2);
            let mut results = in_halves(first, send);
            results.extend(in_halves(second, send));
            results
        }
        Err(error) => {
            let error = Arc::new(error);
            items.iter().map(|_| Err(Arc::clone(&error))).collect()
        }
    }
}
