//! Layout and drawing of the dashboard.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Wrap};

use super::state::{Author, State, parts};

/// Colour of each part of a step, in the order of [`parts`](super::state::parts).
const PART_COLORS: [Color; 6] =
    [Color::Cyan, Color::Blue, Color::Yellow, Color::DarkGray, Color::Green, Color::Magenta];

/// Draws everything.
pub(super) fn render(frame: &mut Frame<'_>, state: &State, now: Instant) {
    let notes = state.notes.len().min(3) as u16;
    let notes_height = if notes == 0 { 0 } else { notes + 2 };
    let [top, middle, times, sample, bottom] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(9),
        Constraint::Length(4),
        Constraint::Min(3),
        Constraint::Length(notes_height),
    ])
    .areas(frame.area());
    let [numbers, curves] =
        Layout::horizontal([Constraint::Length(38), Constraint::Min(20)]).areas(middle);
    render_progress(frame, top, state, now);
    render_numbers(frame, numbers, state);
    render_curves(frame, curves, state);
    render_times(frame, times, state);
    render_sample(frame, sample, state);
    if notes > 0 {
        let lines = state.notes.iter().rev().take(3).rev().map(|it| {
            let is_alarm = it.starts_with("alarm");
            if is_alarm { Line::from(it.as_str().red()) } else { Line::from(it.as_str()) }
        });
        let text: Vec<Line<'_>> = lines.collect();
        frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" notes ")), bottom);
    }
}

fn render_progress(frame: &mut Frame<'_>, area: Rect, state: &State, now: Instant) {
    let elapsed = clock(now.duration_since(state.start).as_secs_f64());
    let left = match state.seconds_left(now) {
        Some(seconds) => format!("about {} left", clock(seconds)),
        None => "time left not known yet".to_owned(),
    };
    let label = format!("{}/{}  {elapsed}, {left}  now: {}", state.step, state.total, state.phase);
    let title = format!(" {} ", state.title);
    let ratio = state.step as f64 / state.total.max(1) as f64;
    let gauge = Gauge::default()
        .block(Block::bordered().title(title.bold()))
        .gauge_style(Style::new().fg(Color::Blue))
        .ratio(ratio.clamp(0.0, 1.0))
        .label(label);
    frame.render_widget(gauge, area);
}

fn render_numbers(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let value = |key: &str| state.metrics.get(key);
    let rows = [
        ("reward", value("reward/mean"), 3),
        ("exact match, training", value("curriculum/success_rate"), 3),
        ("exact match, validation", state.validation, 3),
        ("noise probability", value("curriculum/noise_probability"), 3),
        ("searches a question", value("rollout/num_searches"), 2),
        ("entropy", value("actor/entropy"), 3),
        ("alarms on", value("alarms/num_on"), 0),
    ];
    let line = |(name, value, digits): (&'static str, Option<f64>, usize)| {
        let value = value.map_or_else(|| "–".to_owned(), |it| format!("{it:.digits$}"));
        let is_alarm = name == "alarms on" && value != "0" && value != "–";
        let value = if is_alarm { value.red().bold() } else { value.bold() };
        Line::from(vec![Span::raw(format!("{name:<25}")), value])
    };
    let text: Vec<Line<'_>> = rows.into_iter().map(line).collect();
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" latest step ")), area);
}

fn render_curves(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let points = || state.rewards.iter().chain(&state.answers).map(|it| it.1);
    let top = points().fold(0.0, f64::max).max(0.1);
    let bottom = points().fold(0.0, f64::min);
    let line = |name: &'static str, points, color| {
        Dataset::default()
            .name(name)
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
            .data(points)
    };
    let datasets = vec![
        line("reward", &state.rewards[..], Color::Blue),
        line("exact match", &state.answers[..], Color::Green),
    ];
    let right = state.total.max(2) as f64;
    let label = |it: f64| Line::from(format!("{it:.2}"));
    let chart = Chart::new(datasets)
        .block(Block::bordered().title(Line::from(vec![" reward ".blue(), "exact match ".green()])))
        .legend_position(None)
        .x_axis(Axis::default().bounds([1.0, right]))
        .y_axis(Axis::default().bounds([bottom, top]).labels([label(bottom), label(top)]));
    frame.render_widget(chart, area);
}

/// Bar of the last step, divided into its parts.
fn render_times(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let parts = parts(&state.times);
    let total: f64 = parts.iter().map(|it| it.1).sum();
    let width = area.width.saturating_sub(2);
    let mut bar = Vec::new();
    let mut legend = Vec::new();
    let (mut sum, mut drawn) = (0.0, 0);
    for ((name, seconds), color) in parts.into_iter().zip(PART_COLORS) {
        if seconds <= 0.0 {
            continue;
        }
        sum += seconds;
        let end = (sum / total * f64::from(width)).round() as usize;
        bar.push(Span::styled("█".repeat(end.saturating_sub(drawn)), Style::new().fg(color)));
        drawn = end.max(drawn);
        let share = 100.0 * seconds / total;
        legend.push(Span::styled("■ ", Style::new().fg(color)));
        legend.push(Span::raw(format!("{name} {share:.0} %  ")));
    }
    let title = format!(" time of the step: {total:.2} s ");
    let text = vec![Line::from(bar), Line::from(legend)];
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(title)), area);
}

fn render_sample(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let mut lines = Vec::new();
    let mut title = " latest episode ".to_owned();
    if let Some(sample) = &state.sample {
        title = format!(" latest episode, reward {:.3} ", sample.reward);
        lines.push(Line::from(vec![
            sample.question.as_str().bold(),
            Span::raw("  "),
            sample.golden_answers.as_str().green(),
        ]));
        for (author, text) in &sample.parts {
            let color = match author {
                Author::Policy => Color::Blue,
                Author::Observation => Color::Yellow,
            };
            for line in text.trim().lines().filter(|it| !it.trim().is_empty()) {
                lines.push(Line::styled(line, Style::new().fg(color)));
            }
        }
    }
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text.block(Block::bordered().title(title)), area);
}

/// Seconds as `h:mm:ss` or `m:ss`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::state::Sample;
    use super::*;
    use zs_trainer::{Metrics, StepTimes};

    fn drawn(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let now = state.start + Duration::from_secs(100);
        terminal.draw(|frame| render(frame, state, now)).unwrap();
        let cells = terminal.backend().buffer().content.chunks(usize::from(width));
        let lines = cells.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
        lines.collect::<Vec<_>>().join("\n")
    }

    fn state() -> State {
        let mut state = State::new("training", 60);
        let mut metrics = Metrics::of_step(0);
        metrics.set("validation/exact_match", 0.125);
        state.step(&metrics, StepTimes::default());
        for step in 1..=10 {
            let mut metrics = Metrics::of_step(step);
            metrics.set("reward/mean", 0.05 * step as f64);
            metrics.set("curriculum/success_rate", 0.04 * step as f64);
            metrics.set("curriculum/noise_probability", 0.0321);
            metrics.set("rollout/num_searches", 1.5);
            metrics.set("alarms/num_on", 1.0);
            let times = StepTimes {
                rollout: 6.0,
                prefill: 1.0,
                decode: 3.0,
                search: 2.0,
                update: 4.0,
                validation: 0.0,
            };
            state.step(&metrics, times);
        }
        state.phase = "update";
        state.sample = Some(Sample {
            question: "Where was Anna born?".to_owned(),
            golden_answers: "Vavo".to_owned(),
            reward: 1.0,
            parts: vec![
                (Author::Policy, "<search> Anna </search>".to_owned()),
                (Author::Observation, "\n\n<information>Doc 1: Vavo.\n</information>\n".to_owned()),
                (Author::Policy, "<answer> Vavo </answer>".to_owned()),
            ],
        });
        state.notes = vec!["alarm at step 9: search_cap: too many".to_owned()];
        state
    }

    #[test]
    fn everything_stands_on_the_screen() {
        let screen = drawn(&state(), 100, 30);
        for expected in [
            "10/60  1:40, about 8:20 left  now: update",
            "reward                   0.500",
            "exact match, training    0.400",
            "exact match, validation  0.125",
            "noise probability        0.032",
            "searches a question      1.50",
            "entropy                  –",
            "alarms on                1",
            "time of the step: 10.00 s",
            "■ prefill 10 %  ■ decode 30 %  ■ search 20 %  ■ update 40 %",
            "latest episode, reward 1.000",
            "Where was Anna born?  Vavo",
            "<search> Anna </search>",
            "<information>Doc 1: Vavo.",
            "alarm at step 9: search_cap: too many",
        ] {
            assert!(screen.contains(expected), "{expected}:\n{screen}");
        }
    }

    #[test]
    fn a_small_or_empty_screen_is_drawn() {
        for (width, height) in [(20, 5), (40, 12), (1, 1)] {
            drawn(&state(), width, height);
        }
        let screen = drawn(&State::new("training", 60), 80, 24);
        assert!(screen.contains("0/60  1:40, time left not known yet"), "{screen}");
    }

    #[test]
    fn times_are_told_in_hours() {
        let check = |seconds: f64, expected: &str| assert_eq!(clock(seconds), expected);
        check(59.6, "1:00");
        check(3723.0, "1:02:03");
    }
}
