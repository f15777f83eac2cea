//! Branched credit on games whose values and gradients are known.

use proptest::prelude::*;
use rand::RngExt;
use zs_core::{Domain, Question, StreamKey};

use super::{Algorithm, Branched, Branching, Rloo, RolloutBatch};
use crate::testing::episodes::trajectory;
use crate::{BranchOrigin, RewardScore, RewardedTrajectory, TrajectoryGroup};

const STATES: usize = 3;
const ACTIONS: usize = 3;

/// One number for each turn, state and action.
type Table = Vec<[[f64; ACTIONS]; STATES]>;

/// A game of turns: the environment draws a bit a turn, and the reward comes at the end.
struct Game {
    policy: Table,
    rewards: Table,
    /// The last action ends an episode from the second turn on.
    can_stop: bool,
    /// Chain of right actions: action 0 keeps the first state, and any other move loses the episode.
    is_chain: bool,
}

/// A turn: state and action.
type Move = (usize, usize);

impl Game {
    /// Random policy and rewards; the next state depends on state, action and bit.
    fn random(num_turns: usize, seed: u64) -> Self {
        let mut rng = StreamKey::new(seed).rng(Domain::World);
        let mut table = |number: fn(f64) -> f64| -> Table {
            let row = |_| [(); STATES].map(|()| [(); ACTIONS].map(|()| number(rng.random())));
            (0..num_turns).map(row).collect()
        };
        let rewards = table(|it| f64::from(u8::from(it < 0.4)));
        let policy = table(|it| 0.2 + it).into_iter().map(|it| it.map(normalized)).collect();
        Self { policy, rewards, can_stop: true, is_chain: false }
    }

    /// A question of so many hops, each right with probability `p`, and with noisy documents in half of
    /// the episodes' second turns, with which the answer cannot be found.
    fn hops(num_turns: usize, p: f64) -> Self {
        let wrong = (1.0 - p) / (ACTIONS - 1) as f64;
        let policy = vec![[[p, wrong, wrong]; STATES]; num_turns];
        let mut rewards = vec![[[0.0; ACTIONS]; STATES]; num_turns];
        rewards[num_turns - 1][0][0] = 1.0;
        Self { policy, rewards, can_stop: false, is_chain: true }
    }

    fn next(&self, turn: usize, (state, action): Move, bit: usize) -> usize {
        match self.is_chain {
            true => usize::from(state != 0 || action != 0 || (turn == 1 && bit == 1)),
            false => (2 * state + action + turn + bit) % STATES,
        }
    }

    fn ends(&self, turn: usize, action: usize) -> bool {
        turn + 1 == self.policy.len() || (self.can_stop && turn > 0 && action + 1 == ACTIONS)
    }

    fn draw_bits(&self, rng: &mut impl RngExt) -> Vec<usize> {
        self.policy.iter().map(|_| usize::from(rng.random::<bool>())).collect()
    }

    /// Plays from a state to the end.
    fn play(
        &self,
        turn: usize,
        mut state: usize,
        bits: &[usize],
        rng: &mut impl RngExt,
    ) -> (Vec<Move>, f64) {
        let mut moves = Vec::new();
        for (turn, bit) in bits.iter().enumerate().skip(turn) {
            let mut draw: f64 = rng.random();
            let of_action = self.policy[turn][state];
            let action = (0..ACTIONS - 1).find(|&it| {
                draw -= of_action[it];
                draw < 0.0
            });
            let action = action.unwrap_or(ACTIONS - 1);
            moves.push((state, action));
            if self.ends(turn, action) {
                return (moves, self.rewards[turn][state][action]);
            }
            state = self.next(turn, (state, action), *bit);
        }
        unreachable!("the last turn ends")
    }

    /// The values of actions, with the bits given or, by default, unknown.
    fn action_values(&self, bits: Option<&[usize]>) -> Table {
        let mut values = self.rewards.clone();
        for turn in (0..self.policy.len()).rev() {
            for state in 0..STATES {
                for action in (0..ACTIONS).filter(|it| !self.ends(turn, *it)) {
                    let of_bit = |bit| {
                        let next = self.next(turn, (state, action), bit);
                        self.state_value(&values, turn + 1, next)
                    };
                    values[turn][state][action] = match bits {
                        Some(bits) => of_bit(bits[turn]),
                        None => (of_bit(0) + of_bit(1)) / 2.0,
                    };
                }
            }
        }
        values
    }

    fn state_value(&self, values: &Table, turn: usize, state: usize) -> f64 {
        self.policy[turn][state].iter().zip(values[turn][state]).map(|(p, it)| p * it).sum()
    }

    /// Gradient of the expected reward with respect to the logits of the policy.
    fn gradient(&self) -> Table {
        let values = self.action_values(None);
        let mut gradient = vec![[[0.0; ACTIONS]; STATES]; self.policy.len()];
        let mut reached = vec![[0.0; STATES]; self.policy.len() + 1];
        reached[0][0] = 1.0;
        for turn in 0..self.policy.len() {
            for state in 0..STATES {
                let value = self.state_value(&values, turn, state);
                for action in 0..ACTIONS {
                    let weight = reached[turn][state] * self.policy[turn][state][action];
                    gradient[turn][state][action] = weight * (values[turn][state][action] - value);
                    for bit in (0..2).filter(|_| !self.ends(turn, action)) {
                        let next = self.next(turn, (state, action), bit);
                        reached[turn + 1][next] += weight / 2.0;
                    }
                }
            }
        }
        gradient
    }

    /// A group of episodes and the continuations of those that are branched, with their moves.
    fn group(
        &self,
        size: usize,
        branching: Branching,
        rng: &mut impl RngExt,
    ) -> (TrajectoryGroup, Vec<Vec<Move>>) {
        let mut played: Vec<(Vec<Move>, f64, Option<BranchOrigin>)> = Vec::new();
        let bits: Vec<Vec<usize>> = (0..size).map(|_| self.draw_bits(rng)).collect();
        for bits in &bits {
            let (moves, reward) = self.play(0, 0, bits, rng);
            played.push((moves, reward, None));
        }
        for (parent, bits) in bits.iter().enumerate().take(branching.num_branched(size)) {
            let moves = played[parent].0.clone();
            for turn in 1..moves.len().min(branching.depth + 1) {
                for _ in 0..branching.continuations {
                    let (rest, reward) = self.play(turn, moves[turn].0, bits, rng);
                    let all = moves[..turn].iter().copied().chain(rest).collect();
                    played.push((all, reward, Some(BranchOrigin { parent, turn })));
                }
            }
        }
        let rewarded = |(moves, total, branch): &(Vec<Move>, f64, Option<BranchOrigin>)| {
            let mut trajectory = trajectory(&vec![1; moves.len()]);
            trajectory.branch = *branch;
            let reward = RewardScore { total: *total as f32, ..RewardScore::default() };
            RewardedTrajectory { trajectory, reward }
        };
        let trajectories = played.iter().map(rewarded).collect();
        let group = TrajectoryGroup { question: Question::new("q", "?", ["a"]), trajectories };
        (group, played.into_iter().map(|it| it.0).collect())
    }

    /// Estimate of the gradient from a group, and the turns that were sampled.
    fn estimate(
        &self,
        algorithm: &dyn Algorithm,
        size: usize,
        rng: &mut impl RngExt,
    ) -> (Table, usize) {
        let none = Branching { share: 0.0, ..Branching::default() };
        let branching = algorithm.requirements().branching.unwrap_or(none);
        let (group, moves) = self.group(size, branching, rng);
        let advantages =
            algorithm.advantages(&RolloutBatch::new(std::slice::from_ref(&group))).tokens;
        let mut gradient = vec![[[0.0; ACTIONS]; STATES]; self.policy.len()];
        let mut num_sampled = 0;
        for ((moves, advantages), rewarded) in
            moves.iter().zip(&advantages).zip(&group.trajectories)
        {
            let trajectory = &rewarded.trajectory;
            num_sampled += trajectory.num_policy_tokens();
            for (turn, &(state, action)) in
                moves.iter().enumerate().skip(trajectory.num_shared_turns())
            {
                // One token a turn, and one observed after it.
                let advantage = f64::from(advantages[1 + 2 * turn]) / size as f64;
                for (other, it) in gradient[turn][state].iter_mut().enumerate() {
                    let is_taken = f64::from(u8::from(other == action));
                    *it += advantage * (is_taken - self.policy[turn][state][other]);
                }
            }
        }
        (gradient, num_sampled)
    }
}

fn normalized(row: [f64; ACTIONS]) -> [f64; ACTIONS] {
    let sum: f64 = row.iter().sum();
    row.map(|it| it / sum)
}

fn branched(share: f64, continuations: usize, depth: usize) -> Branched {
    Branched { branching: Branching { share, continuations, depth }, ..Branched::default() }
}

/// Mean and variance of estimates of the gradient, both as sums of squares over its entries.
#[derive(Debug)]
struct Spread {
    squared_bias: f64,
    variance: f64,
    /// Turns sampled in an estimate.
    num_turns: f64,
}

fn spread(
    game: &Game,
    algorithm: &dyn Algorithm,
    size: usize,
    samples: usize,
    seed: u64,
) -> Spread {
    let exact = game.gradient();
    let exact: Vec<f64> = exact.iter().flatten().flatten().copied().collect();
    let mut mean = vec![0.0; exact.len()];
    let (mut variance, mut num_turns) = (0.0, 0.0);
    for sample in 0..samples {
        let mut rng =
            StreamKey { step: sample as u64, ..StreamKey::new(seed) }.rng(Domain::Sampling);
        let (estimate, turns) = game.estimate(algorithm, size, &mut rng);
        num_turns += turns as f64 / samples as f64;
        for ((mean, exact), it) in
            mean.iter_mut().zip(&exact).zip(estimate.iter().flatten().flatten())
        {
            *mean += it / samples as f64;
            variance += (it - exact).powi(2) / samples as f64;
        }
    }
    let squared_bias = mean.iter().zip(&exact).map(|(a, b)| (a - b).powi(2)).sum();
    Spread { squared_bias, variance, num_turns }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn with_many_continuations_the_advantage_is_exact(seed in 0_u64..1000) {
        const MANY: usize = 4000;
        let game = Game::random(3, seed);
        let mut rng = StreamKey::new(seed).rng(Domain::Sampling);
        let algorithm = branched(1.0, MANY, 2);
        let (group, moves) = game.group(1, algorithm.branching, &mut rng);
        let advantages = algorithm.advantages(&RolloutBatch::new(std::slice::from_ref(&group))).tokens;
        // The draws of the environment are those of the episode.
        let bits = game.draw_bits(&mut StreamKey::new(seed).rng(Domain::Sampling));
        let values = game.action_values(Some(&bits));
        for (turn, &(state, action)) in moves[0].iter().enumerate() {
            let found = f64::from(advantages[0][1 + 2 * turn]);
            let value = values[turn][state][action];
            let exact = match turn {
                // Alone at the prompt: the value of the action itself.
                0 => value,
                _ => value - game.state_value(&values, turn, state),
            };
            let weight = algorithm.branching.samples_of_turn(turn) as f64;
            // Four standard deviations of the difference of two means, each 0.5 / sqrt(4000) at most.
            prop_assert!((found * weight - exact).abs() < 0.045, "{turn}: {found} {exact}");
        }
    }
}

#[test]
fn the_gradient_is_unbiased() {
    const SAMPLES: usize = 4000;
    for game in [Game::random(3, 5), Game::random(4, 6), Game::hops(3, 0.7)] {
        for algorithm in [branched(1.0, 1, 1), branched(0.5, 2, 2), branched(1.0, 3, 8)] {
            let found = spread(&game, &algorithm, 4, SAMPLES, 1);
            // The mean of unbiased estimates is off by its own variance.
            let expected = found.variance / SAMPLES as f64;
            assert!(found.squared_bias < 4.0 * expected, "{:?}: {found:?}", algorithm.branching);
        }
    }
}

/// Prints the table of `docs/algorithms/branched.md`.
#[test]
fn branching_lowers_the_variance_of_a_group_and_costs_turns() {
    const SAMPLES: usize = 2000;
    let rloo = Rloo::default();
    for (name, game) in [
        ("random, 4 turns", Game::random(4, 6)),
        ("3 hops at .5", Game::hops(3, 0.5)),
        ("3 hops at .9", Game::hops(3, 0.9)),
        ("4 hops at .7", Game::hops(4, 0.7)),
    ] {
        let alone = spread(&game, &rloo, 8, SAMPLES, 2);
        for (share, continuations) in [(0.5, 2), (1.0, 2)] {
            let found = spread(&game, &branched(share, continuations, 3), 8, SAMPLES, 2);
            let size = (8.0 * found.num_turns / alone.num_turns).round() as usize;
            let equal = spread(&game, &rloo, size, SAMPLES, 2);
            println!(
                "| {name} | {share} | {:.1} | {:.2} | {:.2} |",
                found.num_turns / alone.num_turns,
                found.variance / alone.variance,
                found.variance * found.num_turns / (equal.variance * equal.num_turns),
            );
            assert!(found.variance < alone.variance, "{name}: {found:?} {alone:?}");
        }
    }
}
