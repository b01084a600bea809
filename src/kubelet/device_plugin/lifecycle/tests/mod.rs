mod any_order;
mod table;
