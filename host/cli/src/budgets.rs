//! `tollgate budgets`: what routes may still record, and until when.

use tollgate_api::budgets::{BUDGET_ACCOUNTS_MAX, BudgetView, BudgetsQuery};
use tollgate_api::{Nothing, calls};
use tollgate_core::mask;

use super::{Exit, Target, Usage, ask, print_json, registry, show};

pub(super) fn run(target: &Target, query: &BudgetsQuery) -> anyhow::Result<Exit> {
    let asked = query.clone().checked().map_err(Usage)?;
    let at = ask::host_or_app(target)?;
    let budgets = registry::asked_at::<calls::Budgets>(at, &Nothing {}, query, &Nothing {})?;
    if target.json {
        print_json(&budgets)?;
    } else if budgets.is_empty() {
        anstream::println!("no route has a budget");
    } else {
        budgets.iter().for_each(show_budget);
        if budgets.len() == asked.rows_max {
            anstream::println!("\nthere may be more: narrow with --tenant or --route, or ask for more with --limit");
        }
    }
    Ok(Exit::Yes)
}

fn show_budget(view: &BudgetView) {
    let (bold, dim) = (show::BOLD, show::DIM);
    let Some(budget) = view.budget() else { return };
    anstream::println!(
        "{bold}{}/{}{bold:#}  {}: {budget}  {dim}until {}{dim:#}",
        view.tenant,
        view.route,
        view.kind,
        view.ends_at
    );
    if view.spent.is_empty() {
        anstream::println!("  nothing spent");
    }
    for part in &view.spent {
        let style = if part.left == 0 { show::BAD } else { show::GOOD };
        let account = part.account.as_ref();
        let account = account.map(|account| format!("{}: ", mask::line(account, 100)));
        anstream::println!(
            "  {}{} spent, {style}{} left{style:#}",
            account.unwrap_or_default(),
            budget.most.in_words(part.spent),
            budget.most.in_words(part.left),
        );
    }
    if view.spent.len() == BUDGET_ACCOUNTS_MAX {
        anstream::println!("  {dim}those that have spent most; another with --account{dim:#}");
    }
}
