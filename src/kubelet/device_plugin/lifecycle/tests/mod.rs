mod any_order;
mod model;
mod table;
