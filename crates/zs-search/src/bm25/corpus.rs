//! Documents of a corpus, in a language.

use std::collections::VecDeque;
use std::path::Path;

use zs_core::Document;
use zs_data::{DataError, Rows, open_documents};

use super::script::SAMPLE;
use super::{Bm25Error, Bm25Language, ScriptCounts};

/// Documents of a corpus, the first ones of which have been read to choose its language.
pub(super) struct Corpus {
    first: VecDeque<(Result<Document, DataError>, usize)>,
    pub(super) documents: Rows<Document>,
    pub(super) language: Bm25Language,
}

impl Corpus {
    pub(super) fn open(path: &Path, language: Option<Bm25Language>) -> Result<Self, Bm25Error> {
        let mut documents = open_documents(path)?;
        let (mut first, mut scripts) = (VecDeque::new(), ScriptCounts::default());
        while language.is_none() && first.len() < SAMPLE {
            let Some(document) = documents.next() else { break };
            let row = documents.row();
            let is_failure = document.is_err();
            document.iter().for_each(|it| scripts.add(&it.text, row));
            first.push_back((document, row));
            if is_failure {
                break;
            }
        }
        let language = language.unwrap_or_else(|| scripts.language());
        Ok(Self { first, documents, language })
    }
}

/// Documents with their rows.
impl Iterator for Corpus {
    type Item = (Result<Document, DataError>, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let following = || Some((self.documents.next()?, self.documents.row()));
        self.first.pop_front().or_else(following)
    }
}
