//! A setting: a row of a table.
//!
//! # Mechanism
//! Every setting is described once, by a row of a table: [`ENGINE`](super::engine::ENGINE) and
//! [`CLASS`](super::class::CLASS) are the engine's, and each companion crate has tables for its own settings. The reader of
//! files, environment and options, the checks, the explanation, the template of a file, the options of the program and the
//! documentation are all made from these rows. The macro [`settings!`](crate::settings) makes a table.
//!
//! # Invariants
//! - `set` is called only with a value that the row's `kind` accepts.
//! - What `get` returns can be written to a file, read again and `set`, and then makes the same plan. (A file has times in
//!   the row's unit, rounded up; a builder may be finer.)
//! - Every field of the struct has a row, or is named as an exception: the macro's destructuring does not compile otherwise.

use super::error::PlanError;
use super::kind::{InvalidValue, Kind};
use super::value::Value;
use std::fmt;

/// What a row says of its setting, whatever struct it is a setting of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingInfo {
    /// Its name in files, environment (`PELTON_…`) and options, its unit last.
    pub key: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Its unit; empty where it has none.
    pub unit: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What more or less of it buys and costs.
    pub trades: &'static str,
    /// The figure that shows its effect.
    pub watch: &'static str,
    /// Another setting of the table, and the word that it must have for this one to have a use.
    pub needs: Option<(&'static str, &'static str)>,
}

/// One row of a table of settings of a `T`; made by [`settings!`](crate::settings).
#[derive(Clone, Copy)]
pub struct Setting<T: 'static> {
    /// What it says of the setting.
    pub info: SettingInfo,
    get: fn(&T, &SettingInfo) -> Value,
    set: fn(&mut T, Value, &SettingInfo),
}

impl<T> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("info", &self.info).finish_non_exhaustive()
    }
}

impl<T> Setting<T> {
    #[doc(hidden)]
    pub const fn new(
        info: SettingInfo,
        get: fn(&T, &SettingInfo) -> Value,
        set: fn(&mut T, Value, &SettingInfo),
    ) -> Self {
        Setting { info, get, set }
    }

    /// Returns the value that the setting has in `of`.
    ///
    /// ```
    /// use pelton::{Plan, Profile, engine::ENGINE};
    /// let mut plan = Plan::new(Profile::Dev);
    /// let burst = ENGINE.iter().find(|row| row.info.key == "burst_events").unwrap();
    /// assert_eq!(burst.get(&plan), 64u32.into());
    /// burst.set(&mut plan, 0u32.into());
    /// let error = burst.check(str::to_string, &plan).unwrap();
    /// assert_eq!((error.value.as_str(), error.works.as_str()), ("0", "1"));
    /// ```
    pub fn get(&self, of: &T) -> Value {
        (self.get)(of, &self.info)
    }

    /// Sets it to a value that its kind accepts.
    pub fn set(&self, of: &mut T, value: Value) {
        (self.set)(of, value, &self.info);
    }

    /// Checks the value that it has in `of`. `name` makes the name in the error from the key.
    pub fn check(&self, name: impl Fn(&str) -> String, of: &T) -> Option<PlanError> {
        let value = self.get(of);
        let InvalidValue { expected, suggestion } = self.info.kind.accept(&value).err()?;
        let value = match &value {
            Value::Word(word) => format!("'{}'", word.escape_debug()),
            value => value.to_string(),
        };
        Some(PlanError::new(name(self.info.key), value, expected, suggestion))
    }
}

/// Makes a table of settings: a `const` slice of [`Setting`](crate::engine::Setting)s, a row for each setting of a struct.
///
/// ```
/// use pelton::engine::Kind;
/// use pelton::settings;
///
/// struct Motor {
///     speed: u32,
///     serial: u64,
/// }
///
/// settings! {
///     /// The settings of a motor.
///     pub const MOTOR: Motor {
///         speed_max_rpm: speed = Kind::whole(1, 9_000), unit: "rpm",
///             what: "the highest speed",
///             trades: "a fast motor wears sooner",
///             watch: "temperature";
///     }
///     except { serial }
/// }
///
/// let mut motor = Motor { speed: 100, serial: 7 };
/// MOTOR[0].set(&mut motor, 250u32.into());
/// assert_eq!((motor.speed, MOTOR[0].get(&motor)), (250, 250u32.into()));
/// ```
///
/// A field that has no row and is no exception does not compile:
///
/// ```compile_fail,E0027
/// use pelton::engine::Kind;
/// use pelton::settings;
///
/// struct Motor {
///     speed: u32,
///     serial: u64,
/// }
///
/// settings! {
///     const MOTOR: Motor {
///         speed_max_rpm: speed = Kind::whole(1, 9_000), unit: "rpm", what: "the highest speed";
///     }
/// }
/// ```
///
/// # Rows
/// - `key: field`, or `key: field.part`: the name in files, and where the value is kept. The type of the field decides how
///   it is converted, see [`SettingField`](crate::engine::SettingField).
/// - `key: (field)`: a second setting that is kept in the field of another row.
/// - `unit`, `needs: OTHER = "WORD"` and a pair of closures `get: |of, info| …, set: |of, value, info| …` are optional and
///   keep this order; closures replace the conversion of the field's type.
/// - `except { … }` names the fields that have no row. With `code_only NAME { field: "why", … }` these are a public table.
#[macro_export]
macro_rules! settings {
    (
        $(#[$doc:meta])*
        $vis:vis const $table:ident: $of:ident {
            $(
                $key:ident:
                $($field:ident $(.$part:ident)*)?
                $(($shared:ident $(.$shared_part:ident)*))?
                = $kind:expr
                $(, unit: $unit:literal)?
                $(, needs: $other:ident = $word:literal)?
                , what: $what:literal
                $(, trades: $trades:literal)?
                $(, watch: $watch:literal)?
                $(, get: $get:expr, set: $set:expr)?
                ;
            )*
        }
        $(except { $($except:ident),* })?
        $(code_only $code_only:ident { $($code_field:ident: $why:literal,)* })?
    ) => {
        $(#[$doc])*
        $vis const $table: &[$crate::engine::settings::schema::Setting<$of>] = &[
            $($crate::engine::settings::schema::Setting::new(
                $crate::engine::settings::schema::SettingInfo {
                    key: stringify!($key),
                    kind: $kind,
                    unit: concat!($($unit)?),
                    what: $what,
                    trades: concat!($($trades)?),
                    watch: concat!($($watch)?),
                    needs: $crate::settings!(@needs $(stringify!($other), $word)?),
                },
                $crate::settings!(
                    @get [$($field $(.$part)*)? $($shared $(.$shared_part)*)?] $($get)?
                ),
                $crate::settings!(
                    @set [$($field $(.$part)*)? $($shared $(.$shared_part)*)?] $($set)?
                ),
            ),)*
        ];

        $(
            /// Fields that only code can set, and why no file can.
            pub const $code_only: &[(&str, &str)] = &[$((stringify!($code_field), $why)),*];
        )?

        // Exhaustive: a field that has no row and is no exception does not compile.
        const _: fn(&$of) = |of| {
            let $of {
                $($($field: _,)?)*
                $($($except: _,)*)?
                $($($code_field: _,)*)?
            } = of;
        };
    };
    (@needs) => { None };
    (@needs $other:expr, $word:literal) => { Some(($other, $word)) };
    (@get [$($path:tt)*]) => {
        |of, info| $crate::engine::settings::field::SettingField::to_value(&of.$($path)*, info)
    };
    (@get [$($path:tt)*] $get:expr) => { $get };
    (@set [$($path:tt)*]) => {
        |of, value, info| {
            if let Some(value) = $crate::engine::settings::field::SettingField::from_value(value, info) {
                of.$($path)* = value;
            }
        }
    };
    (@set [$($path:tt)*] $set:expr) => { $set };
}
pub(crate) use settings;
