//! The `openai` Python client as a real client, where it is installed.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use zs_model::testing::ScriptedGenerator;
use zs_serve::{ServeConfig, ServedModel, Server, Services};

use crate::common::python_with;

const SCRIPT: &str = r#"
import sys
import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="s3cret", max_retries=0)
assert [m.id for m in client.models.list()] == ["parrot"]

messages = [{"role": "system", "content": ""}, {"role": "user", "content": [{"type": "text", "text": "été"}]}]
reply = client.chat.completions.create(model="parrot", messages=messages, n=2, stop=["?"], seed=1, logprobs=True)
assert [c.message.content for c in reply.choices] == ["été!", "été!"], reply
assert reply.choices[0].finish_reason == "stop"
assert reply.choices[0].logprobs.content[0].logprob == -0.5
assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens

stream = client.chat.completions.create(
    model="parrot", messages=messages, stop=["?"], stream=True, stream_options={"include_usage": True})
chunks = list(stream)
text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
assert text == "été!", text
assert chunks[-1].usage.completion_tokens > 0

reply = client.completions.create(model="parrot", prompt=["a", "b"], max_tokens=2)
assert [c.text for c in reply.choices] == ["a!", "b!"], reply
assert reply.choices[0].finish_reason == "length"

for bad, error in [
    (dict(model="other", messages=messages), openai.NotFoundError),
    (dict(model="parrot", messages=messages, temperature=-1), openai.BadRequestError),
    (dict(model="parrot", messages=messages, extra_headers={"Authorization": "Bearer x"}), openai.AuthenticationError),
]:
    try:
        client.chat.completions.create(**bad)
    except error as problem:
        assert problem.body["message"], problem
    else:
        raise AssertionError(bad)
print("ok")
"#;

#[test]
fn the_openai_client_is_served() {
    let Some(python) = python_with("openai") else { return };
    let parrot = ScriptedGenerator::new(|text, _| {
        format!("{}!? no more", text.lines().last().unwrap_or_default())
    });
    let model = ServedModel { name: "parrot".to_owned(), generator: Arc::new(parrot) };
    let config = ServeConfig {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        token: Some("s3cret".to_owned()),
        ..ServeConfig::default()
    };
    let server =
        Server::start(config, Services { model: Some(model), ..Services::default() }).unwrap();
    let url = format!("http://{}/v1", server.address());
    let output = Command::new(&python).args(["-c", SCRIPT, &url]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    server.stop().unwrap();
}
