//! Closed lists: what happens, what is counted, why something was refused. Each value has a
//! place in an array of counters and a word for JSON and labels.

/// Declares an enum with `ALL`, `COUNT`, `index` and `as_str`.
#[macro_export]
macro_rules! closed_list {
    ($(#[doc = $head:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $head])+
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every value, in the order of `index`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Position in `ALL`.
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The word in JSON keys and labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}
