//! Completions as server-sent events, token by token.

use std::sync::Arc;

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, UnboundedReceiver, channel};
use tokio::time::Instant;
use zs_model::{Generator, TextStream};

use super::{ChoicePart, CompletionRequest, NO_RESULT, finish_reason, first_stop, usage};
use crate::connection::Client;
use crate::sample_worker::SampleEvent;

/// Number of events buffered for a slow client; sampling does not wait for it.
const BUFFERED_EVENTS: usize = 64;

/// The events of a request on their way to the client.
pub(super) struct Stream<H> {
    pub(super) events: UnboundedReceiver<SampleEvent>,
    pub(super) generator: Arc<dyn Generator>,
    pub(super) stop: Vec<String>,
    pub(super) num_sequences: usize,
    pub(super) prompt_tokens: usize,
    pub(super) include_usage: bool,
    /// A chunk without choices.
    pub(super) chunk: Value,
    /// Whatever keeps the request in progress until its last event is sent.
    pub(super) held: H,
}

/// Starts a task that turns sampled tokens into events in the form of a route, until the deadline.
pub(super) fn sse<R: CompletionRequest>(
    stream: Stream<impl Send + Sync + 'static>,
    client: Client,
    deadline: Instant,
) -> Sse<impl futures_util::Stream<Item = Result<Event, axum::Error>>> {
    let (sender, mut receiver) = channel(BUFFERED_EVENTS);
    tokio::spawn(async move {
        // Each end drops the events of the sampler, which ends the sampling.
        tokio::select! {
            _ = stream.send_all::<R>(&sender) => {}
            () = client.left() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    });
    let events = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    Sse::new(events).keep_alive(KeepAlive::default())
}

type EventSender = Sender<Result<Event, axum::Error>>;

/// The client has disconnected.
struct Disconnected;

impl<H> Stream<H> {
    async fn send_all<R: CompletionRequest>(self, to: &EventSender) -> Result<(), Disconnected> {
        let Self { mut events, generator, stop, num_sequences, mut chunk, held, .. } = self;
        let mut texts: Vec<Option<VisibleStream<'_>>> = (0..num_sequences)
            .map(|_| Some(VisibleStream::new(TextStream::new(generator.tokenizer()), &stop)))
            .collect();
        let mut lengths = vec![None; num_sequences];
        for index in 0..num_sequences {
            send_part::<R>(to, &chunk, index, ChoicePart::Start).await?;
        }
        while let Some(event) = events.recv().await {
            match event {
                SampleEvent::Token { sequence, token } => {
                    let Some(text) = &mut texts[sequence] else { continue };
                    let text = text.push(token);
                    send_part::<R>(to, &chunk, sequence, ChoicePart::Text(&text)).await?;
                }
                SampleEvent::Done { first, completions } => {
                    for (index, it) in (first..).zip(&completions) {
                        let rest = texts[index].take().map(VisibleStream::finish);
                        let rest = rest.unwrap_or_default();
                        send_part::<R>(to, &chunk, index, ChoicePart::Text(&rest)).await?;
                        let end = ChoicePart::End(finish_reason(it));
                        send_part::<R>(to, &chunk, index, end).await?;
                        lengths[index] = Some(it.tokens.len());
                    }
                }
                SampleEvent::Failed(error) => return send_failure(to, &error.to_string()).await,
            }
        }
        if lengths.contains(&None) {
            return send_failure(to, NO_RESULT).await;
        }
        if self.include_usage {
            chunk["usage"] = usage(self.prompt_tokens, lengths.into_iter().flatten());
            send(to, &chunk).await?;
        }
        to.send(Ok(Event::default().data("[DONE]"))).await.map_err(|_| Disconnected)?;
        drop(held);
        Ok(())
    }
}

/// Sends a chunk with one choice, and nothing for a part without content.
async fn send_part<R: CompletionRequest>(
    to: &EventSender,
    chunk: &Value,
    index: usize,
    part: ChoicePart<'_>,
) -> Result<(), Disconnected> {
    let choice = match part {
        ChoicePart::Text("") => None,
        part => R::chunk_choice(index, part),
    };
    let Some(choice) = choice else { return Ok(()) };
    let mut chunk = chunk.clone();
    chunk["choices"] = json!([choice]);
    send(to, &chunk).await
}

async fn send(to: &EventSender, chunk: &Value) -> Result<(), Disconnected> {
    to.send(Event::default().json_data(chunk)).await.map_err(|_| Disconnected)
}

/// Sends an error as an event, since the status line was sent long before.
async fn send_failure(to: &EventSender, message: &str) -> Result<(), Disconnected> {
    let error = json!({ "error": { "message": message, "type": "server_error" } });
    send(to, &error).await
}

/// Incremental text of a sequence without its stop text. A possible start of a stop text is held back.
struct VisibleStream<'a> {
    stream: TextStream<'a>,
    filter: StopFilter<'a>,
}

impl<'a> VisibleStream<'a> {
    fn new(stream: TextStream<'a>, stop: &'a [String]) -> Self {
        Self { stream, filter: StopFilter { stop, text: String::new(), is_stopped: false } }
    }

    /// Returns the text that can be shown after one more token.
    fn push(&mut self, token: u32) -> String {
        let text = self.stream.push(token);
        self.filter.release(&text, false)
    }

    /// Returns the rest at the end.
    fn finish(mut self) -> String {
        self.filter.release(&self.stream.finish(), true)
    }
}

/// Text that is held back until it cannot be part of a stop text.
struct StopFilter<'a> {
    stop: &'a [String],
    text: String,
    is_stopped: bool,
}

impl StopFilter<'_> {
    fn release(&mut self, added: &str, is_end: bool) -> String {
        if self.is_stopped {
            return String::new();
        }
        self.text.push_str(added);
        if let Some(at) = first_stop(&self.text, self.stop) {
            self.is_stopped = true;
            self.text.truncate(at);
            return std::mem::take(&mut self.text);
        }
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let keep = if is_end { 0 } else { longest.saturating_sub(1) };
        let mut shown = self.text.len().saturating_sub(keep);
        while !self.text.is_char_boundary(shown) {
            shown -= 1;
        }
        self.text.drain(..shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&str], expected: &[&str]) {
        let stop = ["</s>".to_owned(), "§".to_owned()];
        let mut filter = StopFilter { stop: &stop, text: String::new(), is_stopped: false };
        let mut shown: Vec<String> = pieces.iter().map(|it| filter.release(it, false)).collect();
        shown.push(filter.release("", true));
        assert_eq!(shown, expected, "{pieces:?}");
    }

    #[test]
    fn stop_texts_are_never_shown() {
        check(&["abcdef", "</", "s>", "x"], &["abc", "de", "f", "", ""]);
        check(&["a</s", "t>"], &["a", "</", "st>"]);
        check(&["é§b"], &["é", ""]);
        check(&["ééé", "b"], &["é", "é", "éb"]);
    }
}
