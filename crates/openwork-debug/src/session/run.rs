//! The run of a session from point to point, and its stops.

use crate::{
    Place, Point, Session, SessionError,
    language::{At, BreakAt, Expression},
};

impl Session {
    /// True if all values of an expression are ready at a point, and were not at the one before.
    fn is_ready(&self, expression: &Expression, point: Point) -> Result<bool, SessionError> {
        let references = expression.references();
        let of_run: Vec<_> = references.iter().copied().filter(|r| r.of.is_none()).collect();
        let counted = if of_run.is_empty() { references } else { of_run };
        let Some(place) = counted.iter().map(|r| r.quantity.place()).max() else { return Ok(false) };
        if place != point.place {
            return Ok(false);
        }
        let (mut open, mut last) = (false, 0);
        for reference in counted.iter().filter(|r| r.quantity.place() == place) {
            match reference.position {
                None => open = true,
                Some(at) => last = last.max(self.position_in(self.prompt()?, at)?),
            }
        }
        Ok(if open { point.position >= last } else { point.position == last })
    }

    fn holds(&self, at: &BreakAt, point: Point) -> Result<bool, SessionError> {
        let here = |position: &Option<At>| -> Result<bool, SessionError> {
            Ok(match position {
                Some(at) => at.of(self.prompt()?.tokens.len()) == Some(point.position),
                None => true,
            })
        };
        Ok(match at {
            BreakAt::Point(place, position) => place.is_none_or(|place| place == point.place) && here(position)?,
            BreakAt::Node(node, position) => {
                let active = || -> Result<bool, SessionError> {
                    Ok(self.trace(&self.prompt()?.name)?.value(*node, point.position) != 0.0)
                };
                Place::Site(node.site) == point.place && here(position)? && active()?
            }
            BreakAt::Condition(condition) => {
                self.is_ready(condition, point)? && self.evaluate(condition, point.position)? != 0.0
            }
        })
    }

    /// Goes on from point to point until `until` holds at one, a breakpoint or a watch stops there, or the run is over; returns
    /// the reasons to stop.
    pub(crate) fn advance(&mut self, mut until: impl FnMut(Point) -> bool) -> Result<Vec<crate::Reason>, SessionError> {
        self.prompt()?;
        loop {
            let number = self.cursor.map_or(0, |cursor| cursor + 1);
            let Some(point) = self.point_of(number) else {
                self.cursor = Some(self.places.len() * self.prompt()?.tokens.len());
                return Ok(vec![]);
            };
            let mut reasons = vec![];
            for breakpoint in &self.breakpoints {
                if self.holds(&breakpoint.at, point)? {
                    reasons.push(crate::Reason::Breakpoint { number: breakpoint.number, at: breakpoint.text.clone() });
                }
            }
            let mut seen = vec![];
            for (i, watched) in self.watches.iter().enumerate() {
                if self.is_ready(&watched.expression, point)? {
                    let now = self.evaluate(&watched.expression, point.position)?;
                    if let Some(from) = watched.last.filter(|last| *last != now) {
                        let expression = watched.expression.to_string();
                        reasons.push(crate::Reason::Watch { number: watched.number, expression, from, to: now });
                    }
                    seen.push((i, now));
                }
            }
            seen.into_iter().for_each(|(i, now)| self.watches[i].last = Some(now));
            self.cursor = Some(number);
            if until(point) || !reasons.is_empty() {
                return Ok(reasons);
            }
        }
    }
}
