//! Shrinking: less of everything, while the same promise is still broken.

use clap::ValueEnum;

use crate::{
    checker::Violation,
    life,
    plan::{Plan, Trouble},
};

/// The smallest plan found that breaks the same promise, or none when the plan breaks nothing. `tried` hears of every
/// attempt.
pub(crate) fn shrink(plan: &Plan, tried: &mut dyn FnMut(&Plan, bool)) -> Option<Plan> {
    let kind = kind_of(&life::live(plan, 0).violation?);
    let mut breaks = |plan: &Plan| {
        let breaks = life::live(plan, 0).violation.is_some_and(|violation| kind_of(&violation) == kind);
        tried(plan, breaks);
        breaks
    };
    let mut best = plan.clone();
    loop {
        let smaller = smaller(&best).into_iter().find(|plan| breaks(plan));
        match smaller {
            Some(smaller) => best = smaller,
            None => return Some(best),
        }
    }
}

/// By this it is known again that a life breaks the same promise in the same way: what its checker says, without the names
/// and numbers, which are others in every life.
fn kind_of(violation: &Violation) -> (&'static str, Vec<String>) {
    let words = violation.story.lines().next().unwrap_or_default().split_whitespace();
    let is_word = |word: &&str| !word.contains(|letter: char| letter.is_ascii_digit());
    (violation.promise, words.filter(is_word).map(str::to_owned).collect())
}

/// Plans that are a little smaller, the biggest step first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Trouble::value_variants()
        .iter()
        .filter(|trouble| !plan.lacks(**trouble))
        .map(|trouble| plan.clone().without(*trouble))
        .collect();
    for hours in [plan.hours / 2, plan.hours - 1] {
        if (1..plan.hours).contains(&hours) {
            plans.push(Plan { hours, ..plan.clone() });
        }
    }
    for nodes in [plan.nodes / 2, plan.nodes - 1] {
        if (2..plan.nodes).contains(&nodes) {
            plans.push(Plan { nodes, ..plan.clone() });
        }
    }
    plans
}

#[cfg(test)]
mod tests {
    use cwn_engine::planted::{Bug, plant};

    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn what_is_left_still_breaks_the_promise_and_nothing_less_does() {
        plant(Some(Bug::ReplyBeforeStored));
        let plan = Plan::new(4, 1, 0, Scenario::find("mixed").unwrap());
        let mut tried = 0;
        let found = shrink(&plan, &mut |_, _| tried += 1).unwrap();
        let promise = |plan: &Plan| life::live(plan, 0).violation.map(|violation| violation.promise);
        assert_eq!(promise(&found), Some("I3"));
        assert!(found.nodes < plan.nodes || !found.left_out.is_empty(), "after {tried} attempts: {found}");
        assert!(smaller(&found).iter().all(|plan| promise(plan) != Some("I3")));
        plant(None);
    }

    #[test]
    fn what_is_left_out_is_drawn_all_the_same_and_the_rest_of_the_life_stays() {
        let plan = Plan::new(4, 1, 0, Scenario::find("mixed").unwrap());
        let told = |plan: &Plan, what: &str| -> Vec<String> {
            let of = |line: &&String| line.contains(what);
            life::live(plan, 100_000).lines.iter().filter(of).cloned().collect()
        };
        let without = plan.clone().without(Trouble::Drops).without(Trouble::Files).without(Trouble::Roots);
        let filled = |plan: &Plan| told(plan, "the queue of").len() + told(plan, "is handed").len();
        assert!(filled(&plan) > 0 && filled(&without) == 0);
        assert_eq!(told(&plan, " publishes "), told(&without, " publishes "));
    }

    #[test]
    fn a_life_that_keeps_every_promise_is_not_shrunk() {
        let plan = Plan::new(3, 1, 0, Scenario::find("mixed").unwrap());
        assert!(shrink(&plan, &mut |_, _| {}).is_none());
    }
}
