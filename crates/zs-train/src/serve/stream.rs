//! Completions as server-sent events, token by token.

use std::sync::Arc;

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, UnboundedReceiver, channel};
use zs_model::{Completion, Generator};

use super::app::Place;
use super::generation::{finish_reason, usage};
use super::worker::SampleEvent;
use crate::text_stream::TextStream;

/// Events that wait for a client that reads slowly; sampling does not wait for it.
const BUFFERED_EVENTS: usize = 64;

/// What is streamed, and the form of it.
pub(super) struct Stream<T, E> {
    pub(super) events: UnboundedReceiver<SampleEvent>,
    pub(super) generator: Arc<dyn Generator>,
    pub(super) stop: Vec<String>,
    pub(super) num_sequences: usize,
    pub(super) prompt_tokens: usize,
    pub(super) include_usage: bool,
    /// A whole chunk around its `choices`.
    pub(super) chunk: Box<dyn Fn(Value) -> Value + Send + Sync>,
    /// What opens each sequence, where anything does.
    pub(super) first: Option<fn(usize) -> Value>,
    /// The `choices` of a piece of text.
    pub(super) text: T,
    /// The `choices` of an end.
    pub(super) end: E,
    /// The request's place, kept until all of it is sent.
    #[expect(dead_code, reason = "held, not read")]
    pub(super) place: Place,
}

/// Starts a task that turns what is sampled into events.
pub(super) fn sse<T, E>(
    stream: Stream<T, E>,
) -> Sse<impl futures_util::Stream<Item = Result<Event, axum::Error>>>
where
    T: Fn(usize, &str) -> Value + Send + Sync + 'static,
    E: Fn(usize, &str) -> Value + Send + Sync + 'static,
{
    let (sender, mut receiver) = channel(BUFFERED_EVENTS);
    tokio::spawn(async move {
        // Sending fails once the client has gone, which ends the task.
        let _ = stream.send_all(&sender).await;
    });
    let events = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    Sse::new(events).keep_alive(KeepAlive::default())
}

type EventSender = Sender<Result<Event, axum::Error>>;

/// The client has gone.
struct Gone;

impl<T, E> Stream<T, E>
where
    T: Fn(usize, &str) -> Value + Send + Sync + 'static,
    E: Fn(usize, &str) -> Value + Send + Sync + 'static,
{
    async fn send_all(mut self, to: &EventSender) -> Result<(), Gone> {
        let generator = Arc::clone(&self.generator);
        let mut texts: Vec<StoppedText<'_>> = (0..self.num_sequences)
            .map(|_| StoppedText::new(TextStream::new(generator.tokenizer()), &self.stop))
            .collect();
        for index in (0..self.num_sequences).filter(|_| self.first.is_some()) {
            if let Some(first) = self.first {
                send(to, &(self.chunk)(first(index))).await?;
            }
        }
        while let Some(event) = self.events.recv().await {
            match event {
                SampleEvent::Token { sequence, token } => {
                    let text = texts[sequence].push(token);
                    if !text.is_empty() {
                        send(to, &(self.chunk)((self.text)(sequence, &text))).await?;
                    }
                }
                SampleEvent::Done(completions) => {
                    return self.send_end(to, texts, &completions).await;
                }
                SampleEvent::Failed(message) => return send_failure(to, &message).await,
            }
        }
        send_failure(to, "the model broke down").await
    }

    async fn send_end(
        &self,
        to: &EventSender,
        texts: Vec<StoppedText<'_>>,
        completions: &[Completion],
    ) -> Result<(), Gone> {
        for (index, (text, completion)) in texts.into_iter().zip(completions).enumerate() {
            let rest = text.finish();
            if !rest.is_empty() {
                send(to, &(self.chunk)((self.text)(index, &rest))).await?;
            }
            send(to, &(self.chunk)((self.end)(index, finish_reason(completion)))).await?;
        }
        if self.include_usage {
            let mut chunk = (self.chunk)(json!([]));
            chunk["usage"] = usage(self.prompt_tokens, completions);
            send(to, &chunk).await?;
        }
        to.send(Ok(Event::default().data("[DONE]"))).await.map_err(|_| Gone)
    }
}

async fn send(to: &EventSender, chunk: &Value) -> Result<(), Gone> {
    to.send(Event::default().json_data(chunk)).await.map_err(|_| Gone)
}

/// The status line has long been sent, so a failure is an event too.
async fn send_failure(to: &EventSender, message: &str) -> Result<(), Gone> {
    let error = json!({ "error": { "message": message, "type": "server_error" } });
    send(to, &error).await
}

/// Text of a sequence without its stop text: what might be the start of one is held back.
struct StoppedText<'a> {
    stream: TextStream<'a>,
    held: Held<'a>,
}

impl<'a> StoppedText<'a> {
    fn new(stream: TextStream<'a>, stop: &'a [String]) -> Self {
        Self { stream, held: Held { stop, text: String::new(), is_stopped: false } }
    }

    /// What can be shown after one more token.
    fn push(&mut self, token: u32) -> String {
        let text = self.stream.push(token);
        self.held.release(&text, false)
    }

    /// What is left at the end.
    fn finish(mut self) -> String {
        self.held.release(&self.stream.finish(), true)
    }
}

struct Held<'a> {
    stop: &'a [String],
    text: String,
    is_stopped: bool,
}

impl Held<'_> {
    fn release(&mut self, added: &str, is_end: bool) -> String {
        if self.is_stopped {
            return String::new();
        }
        self.text.push_str(added);
        if let Some(at) = self.stop.iter().filter_map(|it| self.text.find(it.as_str())).min() {
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
        let mut held = Held { stop: &stop, text: String::new(), is_stopped: false };
        let mut shown: Vec<String> = pieces.iter().map(|it| held.release(it, false)).collect();
        shown.push(held.release("", true));
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
