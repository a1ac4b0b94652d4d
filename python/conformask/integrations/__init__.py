"""conformask at home in other libraries: import the module that you need. conformask itself imports none of them."""
